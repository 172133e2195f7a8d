"""The lines of a batch's files as the results of Anthropic's batches."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import orjson

from kindling_platform.gateway.surface.messages.errors import error_object

UNMADE = {"batch_cancelled": "canceled", "batch_expired": "expired"}
OK = 200


class Answered(msgspec.Struct):
    """What a request got, as a line of output tells it; its body as it is."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class Output(msgspec.Struct):
    """A line of output."""

    custom_id: str
    response: Answered | None
    error: dict[str, Any] | None


async def result_lines(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The results of a file of output, several lines at a time."""
    held = b""
    async for part in parts:
        *lines, held = (held + part).split(b"\n")
        if lines:
            # There may be ten thousands of them in a megabyte.
            yield await asyncio.to_thread(_results, lines)


def _results(lines: list[bytes]) -> bytes:
    return b"".join(map(_result, lines))


def _result(text: bytes) -> bytes:
    line = msgspec.json.decode(text, type=Output)
    if line.response is None:
        error = line.error or {}
        if kind := UNMADE.get(str(error.get("code"))):
            result: dict[str, Any] = {"type": kind}
        else:
            result = {"type": "errored", "error": error_object(500, str(error.get("message", "")), "")}
    else:
        body = orjson.Fragment(bytes(line.response.body))
        good = line.response.status_code == OK
        result = {"type": "succeeded", "message": body} if good else {"type": "errored", "error": body}
    return orjson.dumps({"custom_id": line.custom_id, "result": result}) + b"\n"
