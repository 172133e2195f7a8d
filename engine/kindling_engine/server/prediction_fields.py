"""What a client expects an answer to become: a guess that speeds it up and never changes it."""

from kindling_engine.protocol.sampling import Sampling
from kindling_engine.server.errors import invalid_value, unsupported_field
from kindling_engine.server.fields import Fields, text_check
from kindling_engine.server.model_text import ModelText, TextTooLongError
from kindling_engine.server.request_common import ModelFacts


def prediction_read(fields: Fields) -> str | None:
    """The text of ``prediction``; None without one. Errors: 400 ones."""
    given = fields.take("prediction")
    if given is None:
        return None
    if isinstance(given, str):
        return text_check(given, "prediction")
    inner = Fields(fields.object("prediction") or {}, "prediction.")
    if (kind := inner.need("type")) != "content":
        raise unsupported_field(
            "prediction.type", f"prediction.type must be content, not {str(kind)[:40]!r}."
        )
    content = inner.need("content")
    inner.end()
    if isinstance(content, str):
        return text_check(content, "prediction.content")
    if not isinstance(content, list) or not all(_is_text(part) for part in content):
        raise invalid_value(
            "prediction.content", "prediction.content must be a string or a list of text parts."
        )
    return "".join(
        text_check(part["text"], f"prediction.content[{index}].text") for index, part in enumerate(content)
    )


def prediction_helps(sampling: Sampling, facts: ModelFacts) -> bool:
    """Whether guesses at an answer can speed it up: what a penalty does to a token depends on those before it."""
    penalised = sampling.repetition_penalty != 1.0 or sampling.frequency_penalty or sampling.presence_penalty
    return facts.speculates and not penalised


async def prediction_encode(predicted: str, text: ModelText, facts: ModelFacts) -> list[int]:
    """Its tokens; none of one that is longer than any answer may be."""
    try:
        ids = await text.encode(predicted, add_special_tokens=False, context_length=facts.context_length)
    except TextTooLongError:
        return []
    return ids[: facts.context_length]


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
