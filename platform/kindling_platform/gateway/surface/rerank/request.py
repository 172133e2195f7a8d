"""From a rerank request's body to one of embeddings: the query first, then the documents."""

from dataclasses import dataclass
from typing import Any

from kindling_platform.gateway.surface.body import Translated, object_read
from kindling_platform.gateway.surface.fields import Fields, invalid_value

# As many texts as one embeddings request takes, less the query.
MAX_DOCUMENTS = 2047


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """A body that was read, and its translation."""

    model: str
    documents: list[str]
    top_n: int
    return_documents: bool
    translated: Translated


def rerank_body_read(raw: bytes) -> RerankAsk:
    """Read a body. Errors: 400 ones that name the field."""
    fields = Fields(object_read(raw))
    model, query = fields.need_text("model"), fields.need_text("query")
    fields.need("documents")
    documents = [_document(one, f"documents[{index}]") for index, one in enumerate(fields.items("documents"))]
    if not documents or len(documents) > MAX_DOCUMENTS:
        raise invalid_value("documents", f"documents has to hold 1 to {MAX_DOCUMENTS} texts.")
    top_n = fields.integer("top_n", low=1)
    return_documents = fields.boolean("return_documents")
    embed: dict[str, Any] = {"model": model, "input": [query, *documents], "encoding_format": "base64"}
    fields.copy(embed, "user", "context_length_exceeded_behavior", "truncate_prompt_tokens")
    fields.copy(embed, "max_cost", "deadline_ms")
    fields.end()
    return RerankAsk(
        model=model,
        documents=documents,
        top_n=min(top_n or len(documents), len(documents)),
        return_documents=return_documents is not False,
        translated=Translated(embed, tuple(fields.ignored)),
    )


def _document(value: Any, path: str) -> str:
    """A text, or an object with one as some clients send it."""
    if isinstance(value, dict):
        inner = Fields(value, path)
        value, path = inner.need("text"), inner.path("text")
        inner.end()
    if not isinstance(value, str) or not value:
        raise invalid_value(path, f"{path} has to be a string that is not empty.")
    return value
