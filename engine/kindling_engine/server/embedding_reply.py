"""OpenAI's answer to an embeddings request: vectors of unit length, as numbers or as base64."""

import base64
from collections.abc import Sequence

import numpy as np
import orjson
from numpy.typing import NDArray

from kindling_engine.embeddings.vectors import unit_rows
from kindling_engine.server.embedding_body import EmbeddingRequest

_JSON_OPTIONS = orjson.OPT_SERIALIZE_NUMPY


def embedding_reply(
    request: EmbeddingRequest, vectors: Sequence[bytes], *, prompt_tokens: int, cached_tokens: int
) -> bytes:
    """The body of the reply; the usage is its last field, where a gateway finds it without reading the vectors."""
    whole = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    rows = unit_rows(whole, request.dimensions)
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(row) if request.base64 else row}
        for index, row in enumerate(rows)
    ]
    usage = {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }
    body = {"object": "list", "data": data, "model": request.model, "usage": usage}
    return orjson.dumps(body, option=_JSON_OPTIONS)


def _base64(row: NDArray[np.float32]) -> str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
