"""From a plain completion's body to what the core is asked for."""

from typing import Any

from kindling_engine.server.errors import invalid_value, unsupported_field
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.request_common import (
    GenerationRequest,
    ModelFacts,
    body_object,
    output_limit,
    prompt_encode,
)
from kindling_engine.server.sampling_fields import common_fields_read

MAX_LOGPROBS = 5
DEFAULT_TOKENS = 16


async def completion_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> GenerationRequest:
    """Read a plain completion's body. Errors: 400 ones only."""
    fields = Fields(await body_object(raw))
    common = common_fields_read(fields, vocab_size=facts.vocab_size)
    prompt = _prompt(fields.need("prompt"), facts)
    logprobs = fields.integer("logprobs", low=0, high=MAX_LOGPROBS)
    fields.only("echo", False)
    fields.only("best_of", 1)
    fields.only("suffix", "")
    fields.end()
    if isinstance(prompt, str):
        ids = await prompt_encode(text, prompt, "prompt", facts, add_special_tokens=True)
    else:
        ids = prompt
    return GenerationRequest(
        chat=False,
        model=common.model,
        prompt_ids=ids,
        max_tokens=output_limit(common, len(ids), facts, default=DEFAULT_TOKENS, prompt_field="prompt"),
        sampling=common.sampling,
        stops=common.stops,
        stream=common.stream,
        logprobs=-1 if logprobs is None else logprobs,
        ignored=common.ignored,
    )


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
