"""Log-probabilities of a prompt's own tokens, chunk by chunk, so that no ``[prompt, vocab]`` is ever held."""

from collections.abc import Callable

import torch
from torch import Tensor

from kindling_engine.sampling.logprobs import Logprobs, LogprobTable

# Logits held at a time: 64 MiB in fp32.
CHUNK_ELEMENTS = 16 * 1024 * 1024


class PromptScores:
    """What the model thought of each token of a prompt, given those before it; ``count`` alternatives each.

    ``values`` has a place per token; the first one's stays None, since nothing stands before it.
    """

    __slots__ = ("_chunk", "_count", "_next", "values")

    def __init__(self, *, prompt_len: int, count: int, vocab_size: int) -> None:
        self._chunk = max(1, CHUNK_ELEMENTS // vocab_size)
        self._count = count
        self._next = 0
        self.values: list[Logprobs | None] = [None] * prompt_len

    def wanted(self, start: int, stop: int) -> range:
        """Positions among ``start`` to ``stop`` whose final states are needed: each scores the token behind it.

        A prompt that is computed again after a preemption is not scored again.
        """
        first = max(start, self._next)
        return range(first, max(first, min(stop, len(self.values) - 1)))

    def add(
        self,
        tokens: list[int],
        span: range,
        hidden: Tensor,
        logits_of: Callable[[Tensor], Tensor],
        *,
        row_by_row: bool = False,
    ) -> None:
        """Score the tokens behind ``span`` from its final states ``[len(span), hidden]``."""
        for first in range(0, len(span), self._chunk):
            at = span[first : first + self._chunk]
            logits = logits_of(hidden[first : first + self._chunk])
            behind = torch.tensor(tokens[at.start + 1 : at.stop + 1], dtype=torch.int64, device=logits.device)
            self.values[at.start + 1 : at.stop + 1] = LogprobTable(logits, row_by_row=row_by_row).report(
                behind, [self._count] * len(at)
            )
        self._next = span.stop
