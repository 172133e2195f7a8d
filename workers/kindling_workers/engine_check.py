"""Asks a running engine to load an adapter, look at its values and try it once."""

from dataclasses import dataclass

import msgspec

from kindling_engine.protocol.findings import Finding
from kindling_workers.http import HttpBroken, HttpUnreachable, http_call

# Loading is the long part; below the broker's visibility time-out, so that nobody checks it twice at once.
CHECK_TIMEOUT_S = 60.0
# What an engine says no with; any other failure says nothing about the adapter.
REFUSALS = (400, 412, 422)


class EngineCheckUnreachable(Exception):
    """The engine was not there: nothing is known about the adapter."""


class EngineCheckBroken(Exception):
    """The engine went away, or failed, while it had the adapter in its hands."""


@dataclass(frozen=True, slots=True)
class EngineVerdict:
    """What the engine found; `smoke_text` is what it made with the adapter."""

    ok: bool
    findings: list[Finding]
    smoke_text: str


class _CheckBody(msgspec.Struct):
    ok: bool
    findings: list[Finding]
    smoke_text: str = ""


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


def engine_check(url: str, content_hash: str) -> EngineVerdict:
    """Run `POST /lora/check` on the engine at `url`.

    A refusal to load is a verdict. Errors: `EngineCheckUnreachable`, `EngineCheckBroken`.
    """
    try:
        answer = http_call(
            "POST",
            f"{url.rstrip('/')}/lora/check",
            body=msgspec.json.encode({"adapter": content_hash}),
            timeout_s=CHECK_TIMEOUT_S,
        )
    except HttpBroken as error:
        raise EngineCheckBroken(str(error)) from error
    except HttpUnreachable as error:
        raise EngineCheckUnreachable(str(error)) from error
    if answer.status == 200:
        try:
            body = msgspec.json.decode(answer.body, type=_CheckBody)
        except msgspec.DecodeError as error:
            raise EngineCheckBroken(f"the engine's answer cannot be read: {error}") from error
        return EngineVerdict(ok=body.ok, findings=body.findings, smoke_text=body.smoke_text)
    if answer.status in (503, 429):
        raise EngineCheckUnreachable(f"the engine is busy (status {answer.status})")
    refused = _refusal(answer.body)
    if answer.status in REFUSALS and refused:
        finding = Finding(check="smoke", level="fail", message=refused.message)
        return EngineVerdict(ok=False, findings=[finding], smoke_text="")
    raise EngineCheckBroken(f"the engine answered with status {answer.status}")


def _refusal(body: bytes) -> _Error | None:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.DecodeError:
        return None
