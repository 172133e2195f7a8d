"""What the bodies of chat and plain completions come to, and the steps that both take on the way."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Tokenizer

from kindling_engine.protocol.sampling import Constraint, Sampling, Thinking
from kindling_engine.server.chat_output import ChatShape
from kindling_engine.server.errors import ApiError, invalid_value
from kindling_engine.server.json_body import json_object_parse
from kindling_engine.server.model_text import ModelText, TextTooLongError
from kindling_engine.server.sampling_fields import CommonFields

# Bodies above this are parsed in a thread.
INLINE_BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a request is checked against."""

    ref: str
    context_length: int
    vocab_size: int
    eos_ids: frozenset[int]
    speculates: bool = False
    """Whether guesses at an answer can speed it up."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt and how many tokens each of its answers may have.

    ``text`` and ``offsets``, the characters in front of each token, are there when the prompt is echoed.
    """

    ids: list[int]
    max_tokens: int
    text: str = ""
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A checked request. ``logprobs`` −1 is none, else the number of alternatives.

    Each prompt gets ``best_of`` answers, of which the ``n`` likeliest are returned. ``scoring`` asks for the prompt's
    own log-probabilities and no answer; ``show_special`` writes special tokens into the text. ``shape`` tells what
    a chat's answer is made of, None for content alone; ``perf`` asks for the times of its parts.
    ``prediction`` is what an answer may become in good part.
    """

    chat: bool
    model: str
    prompts: tuple[Prompt, ...]
    sampling: Sampling
    stops: tuple[str, ...]
    stream: bool
    logprobs: int
    ignored: tuple[str, ...]
    constraint: Constraint | None = None
    thinking: Thinking | None = None
    n: int = 1
    best_of: int = 1
    echo: bool = False
    scoring: bool = False
    return_token_ids: bool = False
    include_stop: bool = False
    show_special: bool = False
    shape: ChatShape | None = None
    isolation: str = ""
    perf: bool = False
    prediction: list[int] = field(default_factory=list)


async def body_object(raw: bytes) -> dict[str, Any]:
    """The body as an object; large ones are parsed in a thread."""
    if len(raw) <= INLINE_BODY_BYTES:
        return json_object_parse(raw)
    return await asyncio.to_thread(json_object_parse, raw)


async def prompt_encode(
    text: ModelText, prompt: str, field: str, facts: ModelFacts, *, add_special_tokens: bool
) -> list[int]:
    """Token ids of a prompt. Errors: `context_length_exceeded` where it cannot fit however it is encoded,
    `invalid_value` for a token that only the tokenizer knows.
    """
    try:
        ids = await text.encode(
            prompt, add_special_tokens=add_special_tokens, context_length=facts.context_length
        )
    except TextTooLongError:
        raise prompt_too_long(field, f"{len(prompt)} characters", facts) from None
    tokens_check(text.tokenizer, ids, field, facts)
    return ids


async def parts_encode(text: ModelText, parts: Sequence[str], field: str, facts: ModelFacts) -> list[int]:
    """Token ids of a prompt in parts. Errors: as `prompt_encode`."""
    try:
        ids = await text.encode_parts(parts, context_length=facts.context_length)
    except TextTooLongError:
        raise prompt_too_long(field, f"{sum(map(len, parts))} characters", facts) from None
    tokens_check(text.tokenizer, ids, field, facts)
    return ids


def output_limit(
    common: CommonFields, prompt_tokens: int, facts: ModelFacts, *, default: int | None, prompt_field: str
) -> int:
    """Tokens the answer may have. Errors: 400 when prompt and answer do not fit the context."""
    if not prompt_tokens:
        raise invalid_value(prompt_field, f"{prompt_field} holds no text.")
    room = facts.context_length - prompt_tokens
    if room < 1:
        raise prompt_too_long(prompt_field, f"{prompt_tokens} tokens", facts)
    if common.max_tokens is not None and common.max_tokens > room and not common.shorten:
        raise ApiError(
            400,
            "context_length_exceeded",
            f"The prompt has {prompt_tokens} tokens and max_tokens asks for {common.max_tokens} more; together they "
            f"may be at most {facts.context_length}. Ask for at most {room}, shorten the "
            "prompt, or set context_length_exceeded_behavior to truncate.",
            param="max_tokens",
        )
    limit = min(room, (default or room) if common.max_tokens is None else common.max_tokens)
    if common.sampling.min_tokens > limit and not common.shorten:
        raise invalid_value(
            "min_tokens",
            f"min_tokens asks for {common.sampling.min_tokens} tokens, but the answer may have at most {limit}.",
        )
    return limit


def prompt_too_long(field: str, size: str, facts: ModelFacts) -> ApiError:
    return ApiError(
        400,
        "context_length_exceeded",
        f"The prompt has {size}; this model takes {facts.context_length} tokens, prompt and answer together.",
        param=field,
    )


def tokens_check(tokenizer: Tokenizer, ids: Sequence[int], field: str, facts: ModelFacts) -> None:
    """Refuse a text with a token that the model has no row for: some tokenizers know more tokens than their models.

    Errors: `invalid_value`.
    """
    strange = next((one for one in ids if one >= facts.vocab_size), None)
    if strange is not None:
        raise invalid_value(
            field,
            f"{field} holds the token {tokenizer.id_to_token(strange)!r}, number {strange}, which only this model's "
            f"tokenizer knows; the model's own end at {facts.vocab_size - 1}.",
        )
