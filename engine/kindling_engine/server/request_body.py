"""From a request's body to what the core is asked for."""

import asyncio
from dataclasses import dataclass
from typing import Any

from kindling_engine.protocol.ipc import Sampling
from kindling_engine.server.chat_template import no_template
from kindling_engine.server.errors import ApiError, invalid_value, unsupported_field
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.json_body import json_object_parse
from kindling_engine.server.messages import messages_read
from kindling_engine.server.model_text import ModelText, TextTooLongError
from kindling_engine.server.sampling_fields import CommonFields, common_fields_read

MAX_LOGPROBS_CHAT = 20
MAX_LOGPROBS_COMPLETION = 5
DEFAULT_COMPLETION_TOKENS = 16
# Bodies above this are parsed in a thread.
INLINE_BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a request is checked against."""

    ref: str
    context_length: int
    vocab_size: int
    eos_ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A checked request. ``logprobs`` −1 is none, else the number of alternatives."""

    chat: bool
    model: str
    prompt_ids: list[int]
    max_tokens: int
    sampling: Sampling
    stops: tuple[str, ...]
    stream: bool
    logprobs: int
    ignored: tuple[str, ...]


async def chat_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> GenerationRequest:
    """Read a chat completion's body. Errors: 400 ones only."""
    fields = Fields(await _object(raw))
    common = common_fields_read(fields, vocab_size=facts.vocab_size)
    messages = messages_read(fields.need("messages"))
    logprobs = _chat_logprobs(fields)
    fields.only("response_format", {"type": "text"})
    fields.only("tools", [])
    fields.only("tool_choice", "none", "auto")
    fields.only("functions", [])
    fields.only("function_call", "none", "auto")
    fields.only("parallel_tool_calls", True, False)  # says nothing without tools
    fields.only("modalities", ["text"])
    fields.end()
    if text.template is None:
        raise no_template()
    prompt = text.template.render(messages)
    ids = await _encode(text, prompt, "messages", facts, add_special_tokens=False)
    return _made(
        common, ids, facts, chat=True, default_tokens=None, logprobs=logprobs, prompt_field="messages"
    )


async def completion_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> GenerationRequest:
    """Read a plain completion's body. Errors: 400 ones only."""
    fields = Fields(await _object(raw))
    common = common_fields_read(fields, vocab_size=facts.vocab_size)
    prompt = _prompt(fields.need("prompt"), facts)
    logprobs = fields.integer("logprobs", low=0, high=MAX_LOGPROBS_COMPLETION)
    fields.only("echo", False)
    fields.only("best_of", 1)
    fields.only("suffix", "")
    fields.end()
    if isinstance(prompt, str):
        ids = await _encode(text, prompt, "prompt", facts, add_special_tokens=True)
    else:
        ids = prompt
    return _made(
        common,
        ids,
        facts,
        chat=False,
        default_tokens=DEFAULT_COMPLETION_TOKENS,
        logprobs=-1 if logprobs is None else logprobs,
        prompt_field="prompt",
    )


def _made(
    common: CommonFields,
    ids: list[int],
    facts: ModelFacts,
    *,
    chat: bool,
    default_tokens: int | None,
    logprobs: int,
    prompt_field: str,
) -> GenerationRequest:
    if not ids:
        raise invalid_value(prompt_field, f"{prompt_field} holds no text.")
    room = facts.context_length - len(ids)
    if room < 1:
        raise _too_long(prompt_field, f"{len(ids)} tokens", facts)
    if common.max_tokens is not None and common.max_tokens > room and not common.shorten:
        raise ApiError(
            400,
            "context_length_exceeded",
            f"The prompt has {len(ids)} tokens and max_tokens asks for {common.max_tokens} more; together they may "
            f"be at most {facts.context_length}. Ask for at most {room}, shorten the "
            "prompt, or set context_length_exceeded_behavior to truncate.",
            param="max_tokens",
        )
    wanted = min(room, common.max_tokens or default_tokens or room)
    return GenerationRequest(
        chat=chat,
        model=common.model,
        prompt_ids=ids,
        max_tokens=wanted,
        sampling=common.sampling,
        stops=common.stops,
        stream=common.stream,
        logprobs=logprobs,
        ignored=common.ignored,
    )


async def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) <= INLINE_BODY_BYTES:
        return json_object_parse(raw)
    return await asyncio.to_thread(json_object_parse, raw)


async def _encode(
    text: ModelText, prompt: str, field: str, facts: ModelFacts, *, add_special_tokens: bool
) -> list[int]:
    try:
        return await text.encode(
            prompt, add_special_tokens=add_special_tokens, context_length=facts.context_length
        )
    except TextTooLongError:
        raise _too_long(field, f"{len(prompt)} characters", facts) from None


def _too_long(field: str, size: str, facts: ModelFacts) -> ApiError:
    return ApiError(
        400,
        "context_length_exceeded",
        f"The prompt has {size}; this model takes {facts.context_length} tokens, prompt and answer together.",
        param=field,
    )


def _chat_logprobs(fields: Fields) -> int:
    """`logprobs` true with `top_logprobs`, or the older form where `logprobs` is the number itself."""
    wanted = fields.take("logprobs")
    top = fields.integer("top_logprobs", low=0, high=MAX_LOGPROBS_CHAT)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        wanted_top = fields.integer("logprobs", low=0, high=MAX_LOGPROBS_COMPLETION)
        return (wanted_top or 0) if top is None else top
    if fields.boolean("logprobs"):
        return top or 0
    if top is not None:
        raise invalid_value("top_logprobs", "top_logprobs needs logprobs to be true.")
    return -1


def _prompt(value: Any, facts: ModelFacts) -> str | list[int]:
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        if len(value) > 1:
            raise unsupported_field(
                "prompt", "Several prompts in one request are not supported; send one each."
            )
        value = value[0]
    if isinstance(value, str):
        return text_check(value, "prompt")
    if not isinstance(value, list):
        raise invalid_value("prompt", "prompt must be a string or a list of token ids.")
    if not all(type(one) is int and 0 <= one < facts.vocab_size for one in value):
        raise invalid_value("prompt", f"prompt's token ids must be from 0 to {facts.vocab_size - 1}.")
    return value
