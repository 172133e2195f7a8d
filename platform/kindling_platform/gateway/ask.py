"""What the gateway needs to know of a request's body; the engine checks the rest."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from kindling_platform.gateway.errors import GatewayError

TEMPLATE_TOKENS = 64
MESSAGE_TOKENS = 16
# What a plain completion makes when its body does not say.
COMPLETION_TOKENS = 16
# More answers than any engine gives; whoever asks for them is refused there.
MAX_ANSWERS = 128
FLEX = "flex"
# Gives, for the status and body of an engine's refusal and what was sent, what to send instead; None: nothing.
Spare = Callable[[int, bytes, bytes], bytes | None]


@dataclass(frozen=True, slots=True)
class Ask:
    """The fields that routing, holds and the relay depend on; `max_tokens` None means up to the context.

    `texts` counts the prompts or inputs, each of which may fill the context; `answers` counts the outputs, each of
    which may have `max_tokens`. `include_cost` is the gateway's own and goes to no engine; None where it is absent.
    `flex` asks for the price of batch work, and comes behind all that pay in full.
    """

    model: str
    stream: bool
    include_usage: bool
    max_tokens: int | None
    prompt_tokens_bound: int
    texts: int = 1
    answers: int = 1
    include_cost: bool | None = None
    flex: bool = False


def parse_ask(body: bytes) -> Ask:
    """Read a body; raises 400 for what is no JSON object with a model's name."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        message = f"The request body is not valid JSON: {error.msg} ({where})."
        raise GatewayError(400, "invalid_json", message) from error
    if not isinstance(fields, dict):
        raise GatewayError(400, "invalid_json", "The request body has to be a JSON object.")
    return ask_of(fields, bound_bytes=len(body))


def ask_of(fields: dict[str, Any], *, bound_bytes: int) -> Ask:
    """The same of a body that was read already and has so many bytes.

    The prompt's bound: a token stands for at least one byte of text, and JSON never writes a text with
    fewer bytes than UTF-8 does; the rest covers what a template or a tokenizer puts around the texts.
    """
    model = fields.get("model")
    if model is None or model == "":
        raise GatewayError(400, "missing_field", "The field 'model' is missing.", param="model")
    if not isinstance(model, str):
        raise GatewayError(400, "invalid_value", "The field 'model' has to be a string.", param="model")
    include_cost = (fields["include_cost"] or False) if "include_cost" in fields else None
    if include_cost is not None and not isinstance(include_cost, bool):
        message = "The field 'include_cost' has to be true or false."
        raise GatewayError(400, "invalid_value", message, param="include_cost")
    messages = fields.get("messages")
    texts = _texts(fields)
    count = len(messages) if isinstance(messages, list) else texts if texts > 1 else 0
    options = fields.get("stream_options")
    return Ask(
        model=model,
        stream=fields.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        max_tokens=_max_tokens(fields),
        prompt_tokens_bound=bound_bytes + TEMPLATE_TOKENS + MESSAGE_TOKENS * count,
        texts=texts,
        answers=min(texts * _answers_each(fields), MAX_ANSWERS),
        include_cost=include_cost,
        flex=fields.get("service_tier") == FLEX and not {"messages", "prompt"}.isdisjoint(fields),
    )


def _texts(fields: dict[str, Any]) -> int:
    given = fields.get("input")
    if given is None:
        given = fields.get("prompt")
    several = isinstance(given, list) and given and isinstance(given[0], str | list)
    return len(given) if several and isinstance(given, list) else 1


def _answers_each(fields: dict[str, Any]) -> int:
    """Answers to one prompt: `best_of` are made where `n` of them are returned."""
    answers = 1
    for name in ("n", "best_of"):
        value = fields.get(name)
        if isinstance(value, int | float) and value > answers:
            answers = int(min(value, MAX_ANSWERS))
    return answers


def _max_tokens(fields: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = fields.get(name)
        if isinstance(value, float) and value.is_integer():  # as engines take it
            value = int(value)
        if type(value) is int and value >= 0:
            # The step that reads a prompt to score it makes a token, unseen and unbilled.
            return max(value, 1)
    return COMPLETION_TOKENS if "prompt" in fields and "messages" not in fields else None
