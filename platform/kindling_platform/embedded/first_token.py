"""The proof that a start worked: one request on the public path, and the bill for it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.rest import Reply, call, error_text, stream

PROMPT = "Tell me a story about a fox."
MAX_TOKENS = 24
# Gateway and worker may be up a moment before they see the replica that the agent already reports.
RETRIED = {0, 404, 502, 503}


@dataclass(frozen=True, slots=True)
class FirstToken:
    """What came back; `at` is the monotonic time of the first generated text."""

    request_id: str
    text: str
    at: float


def chat_body(model: str, *, streamed: bool = True, max_tokens: int = MAX_TOKENS) -> dict[str, object]:
    body: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": max_tokens,
    }
    return body | {"stream": True} if streamed else body


def first_token_get(*, url: str, key: str, model: str, timeout_s: float) -> FirstToken:
    """Ask until an answer comes. Errors: `first_token_failed` with what the gateway said."""
    deadline = time.monotonic() + timeout_s
    while True:
        reply, lines = stream(f"{url}/v1/chat/completions", token=key, body=chat_body(model))
        if reply.status == 200:
            return _read(reply, lines)
        if reply.status not in RETRIED or time.monotonic() > deadline:
            raise EmbeddedError(
                "first_token_failed", f"The first request was not answered: {error_text(reply)}"
            )
        time.sleep(0.1)


def bill_wait(*, url: str, key: str, request_id: str, timeout_s: float) -> int:
    """The cost of the request in pico-dollars, once it is on the bill. Errors: `not_billed`."""
    deadline = time.monotonic() + timeout_s
    while True:
        reply = call(f"{url}/api/v1/usage/requests/{request_id}", token=key)
        if reply.status == 200:
            return int(reply.body["cost_picousd"])
        if time.monotonic() > deadline:
            raise EmbeddedError(
                "not_billed",
                f"A token was generated, but its bill did not arrive in {timeout_s:.0f} s "
                f"({error_text(reply)}); the worker's log may say why.",
            )
        time.sleep(0.05)


def _read(reply: Reply, lines: Iterator[bytes]) -> FirstToken:
    text, at = "", 0.0
    try:
        for line in lines:
            said = _text_of(line)
            at = at or (time.monotonic() if said else 0.0)
            text += said
    except (OSError, HTTPException) as error:
        raise EmbeddedError("first_token_failed", f"The answer broke off: {error}") from error
    if not text:
        raise EmbeddedError("first_token_failed", "The engine answered without a single word.")
    return FirstToken(reply.headers.get("x-request-id", ""), text, at)


def _text_of(line: bytes) -> str:
    if not line.startswith(b"data: {"):
        return ""
    chunk = json.loads(line[6:])
    if "error" in chunk:
        raise EmbeddedError("first_token_failed", f"The answer broke off: {chunk['error'].get('message')}")
    choices = chunk.get("choices") or [{}]
    return str(choices[0].get("delta", {}).get("content") or "")
