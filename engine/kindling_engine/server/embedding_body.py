"""From the body of an embeddings request to the token ids of its inputs."""

from dataclasses import dataclass
from typing import Any

from kindling_engine.server.embedding_text import EmbeddingText, TextTooLong
from kindling_engine.server.errors import ApiError, invalid_value
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.request_common import ModelFacts, body_object, tokens_check

MAX_INPUTS = 2048
IGNORED = ("user", "metadata", "safety_identifier")


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A checked request; ``dimensions`` is the length of the vectors wanted."""

    model: str
    inputs: list[list[int]]
    dimensions: int
    base64: bool
    ignored: tuple[str, ...]


async def embedding_body_read(raw: bytes, text: EmbeddingText, facts: ModelFacts) -> EmbeddingRequest:
    """Read an embeddings request's body. Errors: 400 ones only."""
    fields = Fields(await body_object(raw))
    model = text_check(fields.need("model"), "model", empty_ok=False)
    given = _inputs(fields.need("input"), facts.vocab_size)
    encoding = fields.take("encoding_format")
    if encoding not in (None, "float", "base64"):
        raise invalid_value("encoding_format", "encoding_format must be float or base64.")
    dimensions = fields.integer("dimensions", low=1, high=text.hidden_size)
    truncate_to = _truncate_to(fields, facts)
    ignored = fields.present(*IGNORED)
    fields.end()
    return EmbeddingRequest(
        model=model,
        inputs=await _encoded(given, text, facts, truncate_to),
        dimensions=dimensions or text.hidden_size,
        base64=encoding == "base64",
        ignored=ignored,
    )


def _inputs(value: Any, vocab_size: int) -> list[str | list[int]]:
    """A text, a list of texts, a list of token ids, or a list of those."""
    several = isinstance(value, list) and (not value or isinstance(value[0], str | list))
    inputs = value if several else [value]
    if not inputs:
        raise invalid_value("input", "input holds nothing to embed.")
    if len(inputs) > MAX_INPUTS:
        raise invalid_value(
            "input", f"input holds {len(inputs)} texts; one request may have at most {MAX_INPUTS}."
        )
    if several:
        return [_checked(one, f"input[{index}]", vocab_size) for index, one in enumerate(inputs)]
    return [_checked(inputs[0], "input", vocab_size)]


def _checked(value: Any, path: str, vocab_size: int) -> str | list[int]:
    if isinstance(value, str):
        return text_check(value, path, empty_ok=False)
    if not isinstance(value, list) or not value:
        raise invalid_value(path, f"{path} must be a non-empty string or a non-empty list of token ids.")
    if not all(type(one) is int and 0 <= one < vocab_size for one in value):
        raise invalid_value(path, f"{path} must hold token ids from 0 to {vocab_size - 1}.")
    return value


def _truncate_to(fields: Fields, facts: ModelFacts) -> int | None:
    """How many tokens of a longer input to keep; None refuses it instead."""
    name = "context_length_exceeded_behavior"
    behavior = fields.take(name)
    if behavior not in (None, "error", "truncate"):
        raise invalid_value(name, f"{name} must be error or truncate.")
    limit = fields.integer("truncate_prompt_tokens", low=-1, high=facts.context_length)
    if limit == 0:
        raise invalid_value("truncate_prompt_tokens", "truncate_prompt_tokens must be −1 or at least 1.")
    if limit is None:
        return facts.context_length if behavior == "truncate" else None
    return facts.context_length if limit < 0 else limit


async def _encoded(
    given: list[str | list[int]], text: EmbeddingText, facts: ModelFacts, truncate_to: int | None
) -> list[list[int]]:
    texts = [one for one in given if isinstance(one, str)]
    encoded = iter(
        await text.encode(texts, context_length=facts.context_length, truncate_to=truncate_to)
        if texts
        else ()
    )
    inputs = []
    for index, one in enumerate(given):
        path = "input" if len(given) == 1 else f"input[{index}]"
        ids = next(encoded) if isinstance(one, str) else one[:truncate_to]
        if isinstance(ids, TextTooLong):
            raise _too_long(path, f"{ids.chars} characters", facts)
        if len(ids) > facts.context_length:
            raise _too_long(path, f"{len(ids)} tokens", facts)
        if not ids:
            raise invalid_value(path, f"{path} holds no text.")
        if isinstance(one, str):
            tokens_check(text.tokenizer, ids, path, facts)
        inputs.append(ids)
    return inputs


def _too_long(path: str, size: str, facts: ModelFacts) -> ApiError:
    return ApiError(
        400,
        "context_length_exceeded",
        f"{path} has {size}; this model takes at most {facts.context_length} tokens. Split the text, or set "
        "context_length_exceeded_behavior to truncate.",
        param=path,
    )
