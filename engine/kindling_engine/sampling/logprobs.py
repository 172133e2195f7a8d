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


class LogprobTable:
    """Raw ``logits [r, vocab]`` as they were, with each row's normaliser."""

    def __init__(self, logits: Tensor) -> None:
        self._logits = logits
        self._mass = logits.logsumexp(dim=-1, keepdim=True)

    def report(self, tokens: Tensor, counts: Sequence[int]) -> list[Logprobs]:
        """For each row its token of ``tokens [r]`` and its number of best alternatives."""
        chosen = self._logits.gather(1, tokens.unsqueeze(1)) - self._mass
        widest = min(max(counts), self._logits.shape[1])
        if widest == 0:
            return [Logprobs(value, (), ()) for value in chosen.squeeze(1).tolist()]
        best = self._logits.topk(widest, dim=-1)
        values = (best.values - self._mass).tolist()
        columns = zip(chosen.squeeze(1).tolist(), best.indices.tolist(), values, counts, strict=True)
        return [Logprobs(value, tuple(ids[:k]), tuple(tops[:k])) for value, ids, tops, k in columns]


def table_make(logits: Tensor, index: Tensor | None) -> LogprobTable | None:
    """The table of some rows, before anything changes their logits; None when nobody asked."""
    return None if index is None else LogprobTable(torch.index_select(logits, 0, index))
