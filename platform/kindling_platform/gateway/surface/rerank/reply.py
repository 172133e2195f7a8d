"""Vectors of a query and of documents as a ranking: by the cosine of the angle between them."""

import base64
import re
from collections.abc import Mapping
from typing import Any

import orjson

from kindling_platform.gateway.surface.rerank.request import RerankAsk

INPUT = re.compile(r"\binput\[(\d+)\]")


class RerankForm:
    """One ranking. The same list is called `results` by most clients and `data` by Fireworks'."""

    def __init__(self, ask: RerankAsk) -> None:
        self._ask = ask
        self._id = ""
        self._answer = b""

    def begin(self, request_id: str, headers: Mapping[bytes, bytes]) -> None:
        self._id = request_id

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def whole(self, body: bytes) -> None:
        reply = orjson.loads(body)
        ranked = scores_rank([one["embedding"] for one in reply["data"]])[: self._ask.top_n]
        results = [self._result(index, score) for index, score in ranked]
        answer = {
            "id": f"rerank-{self._id}",
            "object": "list",
            "model": reply["model"],
            "results": results,
            "data": results,
            "usage": reply["usage"],
        }
        self._answer = orjson.dumps(answer)

    def feed(self, events: bytes) -> bytes:
        return events  # vectors do not come as a stream

    def end(self) -> bytes:
        return self._answer

    def refusal(self, status: int, body: bytes) -> bytes:
        """The engine's, which knows texts by their places in one list."""
        reply = orjson.loads(body)
        for name in ("param", "message"):
            if isinstance(text := reply["error"].get(name), str):
                reply["error"][name] = INPUT.sub(_asked_field, text)
        return orjson.dumps(reply)

    def _result(self, index: int, score: float) -> dict[str, Any]:
        result: dict[str, Any] = {"index": index, "relevance_score": score}
        if self._ask.return_documents:
            result["document"] = {"text": self._ask.documents[index]}
        return result


def _asked_field(found: re.Match[str]) -> str:
    place = int(found[1])
    return f"documents[{place - 1}]" if place else "query"


def scores_rank(vectors: list[str]) -> list[tuple[int, float]]:
    """Places of documents with their scores, best first; equal ones in their order.

    The first vector is the query's. All have unit length, little-endian float32 as base64, so the product of two is
    their cosine, from −1 to 1.
    """
    import numpy as np  # half of a gateway's memory, which only those pay who rank

    rows = np.stack([np.frombuffer(base64.b64decode(one), dtype="<f4") for one in vectors])
    scores = rows[1:] @ rows[0]
    order = np.argsort(-scores, kind="stable")
    return [(int(place), float(scores[place])) for place in order]
