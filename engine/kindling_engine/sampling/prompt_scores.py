"""Log-probabilities of a prompt's own tokens, chunk by chunk, so that no ``[prompt, vocab]`` is ever held."""

from collections.abc import Callable

import torch
from torch import Tensor

from kindling_engine.runner.transfer import upload_one
from kindling_engine.sampling.logprobs import LogprobReport, Logprobs, LogprobTable

# Logits held at a time: 64 MiB in fp32.
CHUNK_ELEMENTS = 16 * 1024 * 1024


class PromptScores:
    """What the model thought of each token of a prompt, given those before it; ``count`` alternatives each.

    ``values`` has a place per token; the first one's stays None, since nothing stands before it.
    """

    __slots__ = ("_chunk", "_count", "_next", "_reports", "values")

    def __init__(self, *, prompt_len: int, count: int, vocab_size: int) -> None:
        self._chunk = max(1, CHUNK_ELEMENTS // vocab_size)
        self._count = count
        self._next = 0
        self._reports: list[tuple[int, LogprobReport]] = []
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
        """Score the tokens behind ``span`` from its final states ``[len(span), hidden]``; ``settle`` reads them."""
        for first in range(0, len(span), self._chunk):
            at = span[first : first + self._chunk]
            logits = logits_of(hidden[first : first + self._chunk])
            behind = upload_one(tokens[at.start + 1 : at.stop + 1], torch.int64, logits.device)
            table = LogprobTable(logits, row_by_row=row_by_row)
            self._reports.append((at.start + 1, table.report(behind, [self._count] * len(at))))
        self._next = span.stop

    def settle(self) -> None:
        """Take in what has arrived on the host since: everything that was added."""
        reports, self._reports = self._reports, []
        for start, report in reports:
            found = report.read()
            self.values[start : start + len(found)] = found
