"""Where each token of an echoed prompt begins in its text."""

import asyncio
from collections.abc import Sequence

from kindling_engine.server.detokenizer import Detokenizer
from kindling_engine.server.model_text import ModelText

# Longer prompts are walked through in a thread, so that the event loop goes on streaming to the others.
INLINE_TOKENS = 256


async def prompt_offsets(text: ModelText, ids: Sequence[int], shown: str) -> tuple[int, ...]:
    """For each token the number of characters in front of it, at most the length of the text."""
    if len(ids) <= INLINE_TOKENS:
        return _offsets(text, ids, shown)
    return await asyncio.to_thread(_offsets, text, ids, shown)


def _offsets(text: ModelText, ids: Sequence[int], shown: str) -> tuple[int, ...]:
    detokenizer = Detokenizer(text.tokenizer)
    offsets: list[int] = []
    read = 0
    for token_id in ids:
        # Normalisers change texts, so the tokens' own text may be longer than what was sent.
        offsets.append(min(read, len(shown)))
        read += len(detokenizer.feed(token_id))
    return tuple(offsets)
