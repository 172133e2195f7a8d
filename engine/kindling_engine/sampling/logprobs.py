"""Log-probabilities under the model's own distribution, for the rows that asked for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.runner.transfer import download


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

    def report(self, tokens: Tensor, counts: Sequence[int]) -> "LogprobReport":
        """For each row its token of ``tokens [r]`` and its number of best alternatives."""
        chosen = self._logits.gather(1, tokens.unsqueeze(1)) - self._mass
        widest = min(max(counts), self._logits.shape[1])
        best: list[tuple[Tensor, Tensor]] = []
        if widest and not self._row_by_row:
            found = self._logits.topk(widest, dim=-1)
            best = [(download(found.values - self._mass), download(found.indices))]
        elif widest:
            # Which of two equal logits comes first may depend on how many are looked for.
            for row, mass, count in zip(self._logits, self._mass.unbind(), counts, strict=True):
                found = row.topk(min(count, len(row)))
                best.append((download(found.values - mass)[None], download(found.indices)[None]))
        return LogprobReport(download(chosen.squeeze(1)), best, list(counts))


@dataclass(frozen=True, slots=True)
class LogprobReport:
    """What goes to the host; ``read`` it once it has arrived there. ``best`` are values and ids of one or more rows."""

    chosen: Tensor
    best: list[tuple[Tensor, Tensor]]
    counts: list[int]

    def read(self) -> list[Logprobs]:
        """One for each row of the table."""
        if not self.best:
            return [Logprobs(value, (), ()) for value in self.chosen.tolist()]
        values = [row for part, _ in self.best for row in part.tolist()]
        ids_of = [row for _, part in self.best for row in part.tolist()]
        columns = zip(self.chosen.tolist(), ids_of, values, self.counts, strict=True)
        return [Logprobs(value, tuple(ids[:k]), tuple(tops[:k])) for value, ids, tops, k in columns]


def table_make(logits: Tensor, index: Tensor | None, *, row_by_row: bool = False) -> LogprobTable | None:
    """The table of some rows, before anything changes their logits; None when nobody asked."""
    if index is None:
        return None
    return LogprobTable(torch.index_select(logits, 0, index), row_by_row=row_by_row)
