"""From a plain completion's body to what the core is asked for."""

import asyncio
from collections.abc import Sequence
from typing import Any

from kindling_engine.server.errors import invalid_value
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.prompt_text import prompt_offsets
from kindling_engine.server.request_common import (
    INLINE_BODY_BYTES,
    GenerationRequest,
    ModelFacts,
    Prompt,
    body_object,
    output_limit,
    prompt_encode,
    prompt_too_long,
)
from kindling_engine.server.response_format import constraint_check, response_format_read
from kindling_engine.server.sampling_fields import MAX_CHOICES, CommonFields, common_fields_read

MAX_LOGPROBS = 5
DEFAULT_TOKENS = 16
MAX_PROMPTS = 128
MAX_GROUP = 128
# Every answer tells an echoed prompt's log-probabilities once more, so both together make the reply large.
MAX_ECHOED_SCORES = 65_536


async def completion_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> GenerationRequest:
    """Read a plain completion's body. Errors: 400 ones only."""
    fields = Fields(await body_object(raw))
    common = common_fields_read(fields, vocab_size=facts.vocab_size, least_tokens=0)
    needed, cut = fields.need("prompt"), common.truncate_to
    large = len(raw) > INLINE_BODY_BYTES
    given = await asyncio.to_thread(_prompts, needed, facts, cut) if large else _prompts(needed, facts, cut)
    logprobs = fields.integer("logprobs", low=0, high=MAX_LOGPROBS)
    echo = fields.boolean("echo")
    best_of = _best_of(fields, common, len(given))
    fields.only("suffix", "")
    constraint = response_format_read(fields)
    fields.end()
    if common.max_tokens == 0 and not echo:
        raise invalid_value("max_tokens", "max_tokens 0 makes no answer; it needs echo to be true.")
    await constraint_check(constraint, fields)
    prompts: list[Prompt] = []
    for one in given:
        prompts.append(await _prompt(one, text, facts, common=common, echo=echo, logprobs=logprobs))
        if echo and logprobs is not None:
            _check_scores(prompts, facts, common=common, best_of=best_of)
    return GenerationRequest(
        chat=False,
        model=common.model,
        prompts=tuple(prompts),
        sampling=common.sampling,
        stops=common.stops,
        stream=common.stream,
        logprobs=-1 if logprobs is None else logprobs,
        ignored=common.ignored,
        n=common.n,
        best_of=best_of,
        echo=echo,
        scoring=common.max_tokens == 0,
        return_token_ids=common.return_token_ids,
        include_stop=common.include_stop,
        constraint=constraint,
        isolation=common.isolation,
        perf=common.perf,
    )


def _prompts(value: Any, facts: ModelFacts, truncate_to: int | None) -> list[str | list[int]]:
    """One prompt or several: a string, a list of token ids, or a list of either."""
    several = isinstance(value, list) and value and isinstance(value[0], str | list)
    prompts = value if several else [value]
    if len(prompts) > MAX_PROMPTS:
        raise invalid_value("prompt", f"prompt may hold at most {MAX_PROMPTS} prompts.")
    return [_checked(one, facts, truncate_to) for one in prompts]


def _checked(value: Any, facts: ModelFacts, truncate_to: int | None) -> str | list[int]:
    if isinstance(value, str):
        return text_check(value, "prompt")
    if not isinstance(value, list):
        raise invalid_value("prompt", "prompt must be a string, a list of token ids, or a list of either.")
    ids = value if truncate_to is None else value[-truncate_to:]
    # Their number is known at once; a look at each of them takes its time.
    if len(ids) >= facts.context_length:
        raise prompt_too_long("prompt", f"{len(ids)} tokens", facts)
    if not all(type(one) is int and 0 <= one < facts.vocab_size for one in ids):
        raise invalid_value("prompt", f"prompt's token ids must be from 0 to {facts.vocab_size - 1}.")
    return ids


def _check_scores(
    prompts: Sequence[Prompt], facts: ModelFacts, *, common: CommonFields, best_of: int
) -> None:
    """One prompt that fits the context is always scored once."""
    most = max(MAX_ECHOED_SCORES, facts.context_length)
    tokens = sum(len(one.ids) for one in prompts)
    if best_of * tokens <= most:
        return
    field = "best_of" if best_of > common.n else "n" if common.n > 1 else "prompt"
    raise invalid_value(
        field,
        f"With echo and logprobs, n or best_of times the tokens of all prompts may be at most {most}; "
        "ask for fewer answers or fewer prompts at a time.",
    )


def _best_of(fields: Fields, common: CommonFields, num_prompts: int) -> int:
    best_of = fields.integer("best_of", low=1, high=MAX_CHOICES) or common.n
    if best_of < common.n:
        raise invalid_value("best_of", "best_of must not be smaller than n.")
    if best_of > common.n and common.stream:
        raise invalid_value(
            "best_of", "best_of greater than n cannot be streamed: the best are known at the end."
        )
    if best_of * num_prompts > MAX_GROUP:
        raise invalid_value(
            "best_of" if best_of > common.n else "n",
            f"n or best_of times the number of prompts may be at most {MAX_GROUP}.",
        )
    return best_of


async def _prompt(
    given: str | list[int],
    text: ModelText,
    facts: ModelFacts,
    *,
    common: CommonFields,
    echo: bool,
    logprobs: int | None,
) -> Prompt:
    whole = given
    if isinstance(given, str):
        ids = await prompt_encode(text, given, "prompt", facts, add_special_tokens=True)
    else:
        ids = given
    if common.truncate_to is not None and len(ids) > common.truncate_to:
        whole = ids = ids[-common.truncate_to :]
    # A step that reads a prompt makes a token whether it is wanted or not.
    limit = max(1, output_limit(common, len(ids), facts, default=DEFAULT_TOKENS, prompt_field="prompt"))
    if not echo:
        return Prompt(ids, limit)
    shown = whole if isinstance(whole, str) else text.decode(ids)
    return Prompt(ids, limit, shown, () if logprobs is None else await prompt_offsets(text, ids, shown))
