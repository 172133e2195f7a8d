"""What whole replies and streams of both routes have in common."""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from kindling_engine.server.choice import Answer, Piece
from kindling_engine.server.generation import Generation
from kindling_engine.server.perf import perf_block
from kindling_engine.server.request_common import GenerationRequest

DONE = b"data: [DONE]\n\n"
encode = msgspec.json.encode
# OpenAI knows no reason for an end by credit; to a client it is an answer that was cut short.
REASON = {"stop": "stop", "length": "length", "grant_refused": "length"}


class Reply(Protocol):
    """Renders the answers to one request: whole, or event by event."""

    def whole(self, answers: Sequence[Answer]) -> bytes: ...

    def first_events(self) -> bytes:
        """What a stream begins with, before any text."""

    def piece_events(self, piece: Piece) -> bytes:
        """The text of one choice, and behind its last piece the reason for its end."""

    def end_events(self) -> bytes:
        """The usage, and the end of the stream."""


def reply_head(object_name: str, prefix: str, generation: Generation, model: str) -> dict[str, Any]:
    """The fields that every object of an answer begins with."""
    return {
        "id": f"{prefix}-{generation.id}",
        "object": object_name,
        "created": generation.started_ms // 1000,
        "model": model,
    }


def usage_block(generation: Generation) -> dict[str, Any]:
    """What was used. Tokens of a prediction that do not come true are not made, so they are nowhere counted."""
    return {
        "prompt_tokens": generation.prompt_tokens,
        "completion_tokens": generation.completion_tokens,
        "total_tokens": generation.prompt_tokens + generation.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": generation.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": generation.reasoning_tokens,
            "accepted_prediction_tokens": sum(one.accepted_tokens for one in generation.choices),
            "rejected_prediction_tokens": 0,
        },
    }


def usage_fields(request: GenerationRequest, generation: Generation) -> dict[str, Any]:
    """What an answer ends with: its usage, and its times where they were asked for."""
    usage = {"usage": usage_block(generation)}
    return {"perf_metrics": perf_block(generation), **usage} if request.perf else usage


def usage_events(head: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """The last chunk, which has no choices, and the end of the stream."""
    return event({**head, "choices": [], **fields}) + DONE


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def token_fields(
    request: GenerationRequest, index: int, token_ids: Sequence[int], *, first: bool
) -> dict[str, Any]:
    """What ``return_token_ids`` adds to a choice; a stream says the prompt's ids once."""
    if not request.return_token_ids:
        return {}
    ids: dict[str, Any] = {"token_ids": token_ids}
    if first:
        ids["prompt_token_ids"] = request.prompts[index // request.n].ids
    return ids


def stop_fields(stop: str) -> dict[str, Any]:
    """Which stop string ended a choice, where one did."""
    return {"stop_reason": stop} if stop else {}


def error_event(body: dict[str, Any]) -> bytes:
    """An error after the stream has begun; nothing follows it."""
    return event(body)
