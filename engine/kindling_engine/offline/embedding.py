"""Texts to vectors without a server."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kindling_engine.embeddings.ticket import embed_request, ticket_of
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.scheduler import Scheduler
from kindling_engine.server.embedding_text import TextTooLong, embedding_text_load
from kindling_engine.server.model_text import ModelText


def texts_encode(
    folder: Path, text: ModelText, texts: Sequence[str], *, context_length: int, truncate: bool
) -> list[list[int]]:
    """Token ids as the server makes them of the same texts. Raises ValueError for one that cannot fit."""
    encoder = embedding_text_load(folder, text, hidden_size=0)
    found = []
    truncate_to = context_length if truncate else None
    for ids in encoder.encode_now(texts, context_length=context_length, truncate_to=truncate_to):
        if isinstance(ids, TextTooLong):
            raise ValueError(f"A text has {ids.chars} characters; the model takes {context_length} tokens.")
        found.append(ids)
    return found


def texts_embed(
    texts: Sequence[Sequence[int]], *, scheduler: Scheduler, step: Callable[[], None], name: str
) -> NDArray[np.float32]:
    """Vectors ``[texts, hidden]``, not normalised, of token ids; ``step`` turns the loop once.

    Raises ValueError when a text is refused or fails.
    """
    failed: list[Outcome] = []
    left = set()

    def take(outcome: Outcome) -> None:
        if outcome.finish:
            left.discard(outcome.request.id)
            if outcome.finish != "stop":
                failed.append(outcome)

    now_s = time.monotonic()
    requests = [
        embed_request(f"{name}/{index}", ids, now_s=now_s, on_outcome=take) for index, ids in enumerate(texts)
    ]
    try:
        for request in requests:
            left.add(request.id)
            refused = scheduler.add(request, now_s)
            if refused is not None:
                take(refused)
        while left and not failed:
            step()
    finally:
        for request_id in list(left):
            scheduler.cancel(request_id)
    if failed:
        place = failed[0].request.id.rpartition("/")[2]
        raise ValueError(f"Text {place}: {failed[0].error or failed[0].finish}")
    vectors = [ticket_of(request).vector for request in requests]
    return np.stack([vector for vector in vectors if vector is not None])
