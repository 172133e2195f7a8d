"""How a route writes what the engine says: bytes of OpenAI's chat go in, bytes of another shape come out."""

from collections.abc import Mapping
from typing import Any, Protocol

import orjson

DATA = b"data: "
DONE = b"[DONE]"


class Form(Protocol):
    """Translates one answer. Nothing here waits or knows of connections.

    `begin` comes first. A whole answer goes through `whole`, a stream through `feed` part by part, and `end` gives the
    bytes that finish either. `refusal` writes an error that came instead of an answer.
    """

    def begin(self, request_id: str, headers: Mapping[bytes, bytes]) -> None:
        """The request's final id, and the headers that the engine's answer has."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers that this shape has besides."""

    def whole(self, body: bytes) -> None: ...

    def feed(self, events: bytes) -> bytes: ...

    def end(self) -> bytes: ...

    def refusal(self, status: int, body: bytes) -> bytes: ...


class Chunks:
    """Cuts the engine's event stream into its objects, wherever the bytes were cut."""

    __slots__ = ("_rest", "done")

    def __init__(self) -> None:
        self._rest = b""
        self.done = False

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The objects that are complete now."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        found = []
        for event in events:
            if not event.startswith(DATA):
                continue
            text = event[len(DATA) :]
            if text == DONE:
                self.done = True
            else:
                found.append(orjson.loads(text))
        return found


def event(name: str, value: dict[str, Any]) -> bytes:
    """A named server-sent event."""
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(value) + b"\n\n"


def error_of(body: bytes) -> dict[str, Any]:
    """The error object in an OpenAI-shaped body; empty when there is none."""
    try:
        error = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}
