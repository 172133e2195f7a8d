"""What whole replies and streams of both routes have in common."""

from typing import Any, Protocol

import msgspec

from kindling_engine.server.generation import Generation
from kindling_engine.server.output_text import TokenEntry

DONE = b"data: [DONE]\n\n"
encode = msgspec.json.encode
# OpenAI knows no reason for an end by credit; to a client it is an answer that was cut short.
REASON = {"stop": "stop", "length": "length", "grant_refused": "length"}


class Reply(Protocol):
    """Renders the answer to one request: whole, or event by event."""

    def whole(self, text: str, entries: list[TokenEntry], finish: str) -> bytes: ...

    def first_event(self) -> bytes:
        """What a stream begins with, before any text."""

    def text_event(self, text: str, entries: list[TokenEntry]) -> bytes: ...

    def last_events(self, finish: str) -> bytes:
        """The finish reason, the usage, and the end of the stream."""


def reply_head(object_name: str, prefix: str, generation: Generation, model: str) -> dict[str, Any]:
    """The fields that every object of an answer begins with."""
    return {
        "id": f"{prefix}-{generation.id}",
        "object": object_name,
        "created": generation.started_ms // 1000,
        "model": model,
    }


def usage_block(generation: Generation) -> dict[str, Any]:
    return {
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": generation.completion_tokens,
        "total_tokens": generation.prompt_tokens + generation.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
    }


def end_events(head: dict[str, Any], last_choice: dict[str, Any], usage: dict[str, Any]) -> bytes:
    return event({**head, "choices": [last_choice]}) + event({**head, "choices": [], "usage": usage}) + DONE


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def error_event(body: dict[str, Any]) -> bytes:
    """An error after the stream has begun; nothing follows it."""
    return event(body)
