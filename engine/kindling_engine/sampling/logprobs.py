"""Log-probabilities under the model's own distribution, for the rows that asked for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Log-probability of one token and of the best alternatives, under the model's own distribution.

    Temperature, filters, penalties and biases do not enter.
    """

    logprob: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


def log_mass(logits: Tensor, *, row_by_row: bool) -> Tensor:
    """Each row's normaliser ``[r, 1]``. A row alone is summed in another order than one of several may be."""
    if not row_by_row:
        return logits.logsumexp(dim=-1, keepdim=True)
    return torch.cat([row.logsumexp(dim=-1, keepdim=True) for row in logits.split(1)])


class LogprobTable:
    """Raw ``logits [r, vocab]`` as they were, with each row's normaliser.

    ``row_by_row`` makes a row's report independent of the others to the last bit.
    """

    def __init__(self, logits: Tensor, *, row_by_row: bool = False) -> None:
        self._logits = logits
        self._row_by_row = row_by_row
        self._mass = log_mass(logits, row_by_row=row_by_row)

    def report(self, tokens: Tensor, counts: Sequence[int]) -> list[Logprobs]:
        """For each row its token of ``tokens [r]`` and its number of best alternatives."""
        chosen = self._logits.gather(1, tokens.unsqueeze(1)) - self._mass
        widest = min(max(counts), self._logits.shape[1])
        if widest == 0:
            return [Logprobs(value, (), ()) for value in chosen.squeeze(1).tolist()]
        values, ids_of = self._best(counts, widest)
        columns = zip(chosen.squeeze(1).tolist(), ids_of, values, counts, strict=True)
        return [Logprobs(value, tuple(ids[:k]), tuple(tops[:k])) for value, ids, tops, k in columns]

    def _best(self, counts: Sequence[int], widest: int) -> tuple[list[list[float]], list[list[int]]]:
        """Log-probabilities and ids of each row's best alternatives, at least as many as wanted."""
        if not self._row_by_row:
            best = self._logits.topk(widest, dim=-1)
            return (best.values - self._mass).tolist(), best.indices.tolist()
        # Which of two equal logits comes first may depend on how many are looked for.
        found = [row.topk(min(k, len(row))) for row, k in zip(self._logits, counts, strict=True)]
        masses = self._mass.unbind()
        values = [(row.values - mass).tolist() for row, mass in zip(found, masses, strict=True)]
        return values, [row.indices.tolist() for row in found]


def table_make(logits: Tensor, index: Tensor | None, *, row_by_row: bool = False) -> LogprobTable | None:
    """The table of some rows, before anything changes their logits; None when nobody asked."""
    if index is None:
        return None
    return LogprobTable(torch.index_select(logits, 0, index), row_by_row=row_by_row)
