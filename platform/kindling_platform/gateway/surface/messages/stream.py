"""A chat completion's chunks as the typed events of a message."""

from collections.abc import Mapping
from typing import Any

from kindling_platform.gateway.surface.form import event
from kindling_platform.gateway.surface.messages.usage import stop_of, usage_block

EMPTY_BLOCKS: dict[str, dict[str, Any]] = {
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
    "text": {"type": "text", "text": "", "citations": None},
}


class MessageStream:
    """Blocks one after the other: reasoning, text, calls. What a block holds goes out as it comes in.

    `known` are the counts that the engine told before its first token; the last event has the final ones.
    """

    def __init__(self, request_id: str, chunk: dict[str, Any], known: Mapping[str, int]) -> None:
        self._message = {
            "id": f"msg_{request_id}",
            "type": "message",
            "role": "assistant",
            "model": chunk.get("model", ""),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_block(
                {
                    "prompt_tokens": known["prompt_tokens"],
                    "prompt_tokens_details": {"cached_tokens": known["cached_tokens"]},
                }
            ),
        }
        self._index = -1
        self._open = ""
        self._call = -1
        self._stop: tuple[str, str | None] = ("end_turn", None)
        self._usage: dict[str, Any] = {}
        self._limited_by = ""

    def begin(self) -> bytes:
        """The event that opens the message."""
        return event("message_start", {"type": "message_start", "message": self._message})

    def feed(self, chunk: dict[str, Any]) -> bytes:
        """The events of one chunk."""
        self._usage = chunk.get("usage") or self._usage
        self._limited_by = chunk.get("limited_by") or self._limited_by
        out = b""
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if text := delta.get("reasoning_content"):
                out += self._say("thinking", {"type": "thinking_delta", "thinking": text})
            if text := delta.get("content"):
                out += self._say("text", {"type": "text_delta", "text": text})
            for call in delta.get("tool_calls") or []:
                out += self._say_call(call)
            if choice.get("finish_reason"):
                self._stop = stop_of(choice)
        return out

    def end(self) -> bytes:
        """The last block's end, the reason, what was used, the end."""
        reason, sequence = self._stop
        usage = usage_block(self._usage)
        usage.pop("service_tier")
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        if self._limited_by:
            delta["limited_by"] = self._limited_by
        return (
            self._close()
            + event("message_delta", {"type": "message_delta", "delta": delta, "usage": usage})
            + event("message_stop", {"type": "message_stop"})
        )

    def _say(self, kind: str, delta: dict[str, Any]) -> bytes:
        out = b"" if self._open == kind else self._close() + self._begin_block(kind, EMPTY_BLOCKS[kind])
        return out + self._delta(delta)

    def _say_call(self, call: dict[str, Any]) -> bytes:
        out, function = b"", call.get("function") or {}
        if self._open != "tool_use" or call["index"] != self._call:
            self._call = call["index"]
            block = {
                "type": "tool_use",
                "id": call.get("id", ""),
                "name": function.get("name", ""),
                "input": {},
            }
            out = self._close() + self._begin_block("tool_use", block)
        if arguments := function.get("arguments"):
            out += self._delta({"type": "input_json_delta", "partial_json": arguments})
        return out

    def _begin_block(self, kind: str, block: dict[str, Any]) -> bytes:
        self._open = kind
        self._index += 1
        said = {"type": "content_block_start", "index": self._index, "content_block": block}
        return event("content_block_start", said)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        said = {"type": "content_block_delta", "index": self._index, "delta": delta}
        return event("content_block_delta", said)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        out = b""
        if self._open == "thinking":
            # Clients want a signature; nobody here checks one.
            out = self._delta({"type": "signature_delta", "signature": ""})
        self._open = ""
        return out + event("content_block_stop", {"type": "content_block_stop", "index": self._index})
