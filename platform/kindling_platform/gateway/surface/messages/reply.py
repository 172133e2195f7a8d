"""A chat completion's answer as a message of Anthropic's: whole, or as its events."""

from collections.abc import Mapping
from typing import Any

import orjson

from kindling_platform.gateway.surface.form import Chunks, event
from kindling_platform.gateway.surface.messages.errors import error_body, error_object, status_of
from kindling_platform.gateway.surface.messages.stream import MessageStream
from kindling_platform.gateway.surface.messages.usage import STANDARD, stop_of, usage_block
from kindling_platform.gateway.surface.naming import Naming

# Anthropic's clients look for the request's id under this name.
ID_HEADER = b"request-id"
PROMPT_HEADER, CACHED_HEADER = b"x-kindling-prompt-tokens", b"x-kindling-cached-tokens"


class MessageForm:
    """One answer in Anthropic's shape; `naming` is there once the body is translated."""

    def __init__(self, tier: str = STANDARD) -> None:
        self._tier = tier
        self.naming: Naming | None = None
        self._id = ""
        self._answer: bytes | None = None
        self._chunks = Chunks()
        self._stream: MessageStream | None = None
        self._failed = False
        self._known = {"prompt_tokens": 0, "cached_tokens": 0}

    def begin(self, request_id: str, headers: Mapping[bytes, bytes]) -> None:
        self._id = request_id
        for name, header in (("prompt_tokens", PROMPT_HEADER), ("cached_tokens", CACHED_HEADER)):
            if (value := headers.get(header, b"")).isdigit():
                self._known[name] = int(value)

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(ID_HEADER, self._id.encode())]

    def whole(self, body: bytes) -> None:
        self._answer = orjson.dumps(message_of(orjson.loads(body), self._id, self._tier))

    def feed(self, events: bytes) -> bytes:
        return b"".join(map(self._pass, self._chunks.feed(events)))

    def end(self) -> bytes:
        if self._answer is not None:
            return self._answer
        return self._stream.end() if self._stream and self._chunks.done and not self._failed else b""

    def refusal(self, status: int, body: bytes) -> bytes:
        return error_body(status, self.naming.rename(body) if self.naming else body, self._id)

    def _pass(self, chunk: dict[str, Any]) -> bytes:
        if error := chunk.get("error"):
            self._failed = True
            return event("error", error_object(status_of(error), str(error.get("message", "")), self._id))
        if self._stream is None:
            self._stream = MessageStream(self._id, chunk, self._known)
            return self._stream.begin() + self._stream.feed(chunk)
        return self._stream.feed(chunk)


class BatchForm(MessageForm):
    """What is told of batches has its shape already; errors have Anthropic's."""

    def whole(self, body: bytes) -> None:
        self._answer = body


def message_of(reply: dict[str, Any], request_id: str, tier: str) -> dict[str, Any]:
    """A whole chat completion as a message."""
    choice = reply["choices"][0]
    said = choice["message"]
    content: list[dict[str, Any]] = []
    if reasoning := said.get("reasoning_content"):
        content.append({"type": "thinking", "thinking": reasoning, "signature": ""})
    if text := said.get("content"):
        content.append({"type": "text", "text": text, "citations": None})
    content += [_tool_use(call) for call in said.get("tool_calls") or []]
    reason, sequence = stop_of(choice)
    return {
        "id": f"msg_{request_id}",
        "type": "message",
        "role": "assistant",
        "model": reply["model"],
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage_block(reply.get("usage") or {}, tier),
    }


def _tool_use(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        given = orjson.loads(function["arguments"] or "{}")
    except orjson.JSONDecodeError:
        given = None
    # Arguments that were cut off by the answer's length parse as nothing.
    return {
        "type": "tool_use",
        "id": call["id"],
        "name": function["name"],
        "input": given if isinstance(given, dict) else {},
    }
