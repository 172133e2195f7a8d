"""From the bodies of tokenize and detokenize to tokens and text, in the fields that vLLM's users know."""

import asyncio
from dataclasses import dataclass

from kindling_engine.server.chat_body import chat_ignored, chat_names
from kindling_engine.server.chat_prompt import chat_prompt_make
from kindling_engine.server.errors import invalid_value
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.harmony.effort import harmony_effort
from kindling_engine.server.messages import messages_read
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.reasoning_fields import reasoning_fields_read
from kindling_engine.server.request_common import INLINE_BODY_BYTES, ModelFacts, body_object, prompt_encode
from kindling_engine.server.template_files import no_template
from kindling_engine.server.template_variables import template_variables_read
from kindling_engine.server.tool_fields import tool_fields_read

# A context's worth is always taken, and this where that is less: texts may be longer than what a model takes.
MOST_TOKENS = 131_072
# Answers of more tokens are made in a thread, so that the event loop goes on streaming to the others.
INLINE_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Tokenized:
    """The tokens of what a body holds; ``strings`` are there when it asks for them, as the vocabulary writes them.

    ``ignored`` are fields without effect.
    """

    ids: list[int]
    strings: list[str] | None
    ignored: tuple[str, ...]


async def tokenize_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> Tokenized:
    """The tokens of a prompt, or of a conversation in the model's own template; longer than the context is fine.

    Errors: 400 ones only; `context_length_exceeded` for what is several times longer whatever it is made of.
    """
    fields = Fields(await body_object(raw))
    text_check(fields.need("model"), "model")
    wants_strings = fields.boolean("return_token_strs")
    ignored: tuple[str, ...] = ()
    if fields.take("messages") is None:
        ids = await _prompt_ids(fields, text, facts)
    else:
        ids, ignored = await _chat_ids(fields, text, facts, large=len(raw) > INLINE_BODY_BYTES)
    if not wants_strings:
        return Tokenized(ids, None, ignored)
    large = len(ids) > INLINE_TOKENS
    strings = await asyncio.to_thread(text.token_strings, ids) if large else text.token_strings(ids)
    return Tokenized(ids, strings, ignored)


async def detokenize_body_read(raw: bytes, text: ModelText, facts: ModelFacts) -> str:
    """The text of tokens, special ones too. Errors: 400 ones only."""
    fields = Fields(await body_object(raw))
    text_check(fields.need("model"), "model")
    ids = fields.need("tokens")
    fields.end()
    most = max(facts.context_length, MOST_TOKENS)
    if not isinstance(ids, list):
        raise invalid_value("tokens", "tokens must be a list of token ids.")
    if len(ids) > most:
        raise invalid_value("tokens", f"tokens may hold at most {most:,} token ids.")
    return await asyncio.to_thread(_decode, ids, text, facts)


def _decode(ids: list[int], text: ModelText, facts: ModelFacts) -> str:
    if not all(type(one) is int and 0 <= one < facts.vocab_size for one in ids):
        raise invalid_value("tokens", f"tokens must be token ids from 0 to {facts.vocab_size - 1}.")
    # The rows of some models go beyond what their tokenizers have a text for.
    strange = next((one for one in dict.fromkeys(ids) if text.tokenizer.id_to_token(one) is None), None)
    if strange is not None:
        raise invalid_value(
            "tokens", f"tokens holds {strange}, which this model's tokenizer has no text for."
        )
    return text.decode_whole(ids)


async def _prompt_ids(fields: Fields, text: ModelText, facts: ModelFacts) -> list[int]:
    prompt = text_check(fields.need("prompt"), "prompt")
    special = _is_true(fields, "add_special_tokens", default=True)
    fields.end()
    return await prompt_encode(text, prompt, "prompt", facts, add_special_tokens=special)


async def _chat_ids(
    fields: Fields, text: ModelText, facts: ModelFacts, *, large: bool
) -> tuple[list[int], tuple[str, ...]]:
    """The prompt of a chat with the same fields, and which of them have no effect on it."""
    given = fields.take("messages")
    messages = await asyncio.to_thread(messages_read, given) if large else messages_read(given)
    asked, reasoning = tool_fields_read(fields), reasoning_fields_read(fields)
    variables = template_variables_read(fields)
    safe = _is_true(fields, "safe_tokenization", default=True)
    begins = _is_true(fields, "add_generation_prompt", default=True)
    special = _is_true(fields, "add_special_tokens", default=False)
    fields.only("continue_final_message", False)
    fields.only("mm_processor_kwargs", {})
    if fields.take("prompt") is not None:
        raise invalid_value("prompt", "Give either prompt or messages, not both.")
    fields.end()
    if text.chat is None:
        raise no_template()
    family = text.chat.pick(tools=asked.active)
    reasoning.check(reasons=family.reasons)
    if family.harmony is not None:
        reasoning = harmony_effort(reasoning, family.template.names)
    prompt = await chat_prompt_make(
        text,
        facts,
        family,
        messages,
        tools=[tool.shown for tool in asked.tools] if asked.active else None,
        variables=chat_names(asked, reasoning, family) | variables,
        reasoning=reasoning,
        safe=safe,
        large=large,
        begins=begins,
    )
    before, behind = text.special_ends if special else ([], [])
    return [*before, *prompt.ids, *behind], chat_ignored(given, variables, family)


def _is_true(fields: Fields, name: str, *, default: bool) -> bool:
    given = fields.take(name) is not None
    return fields.boolean(name) if given else default
