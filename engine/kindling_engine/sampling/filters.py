"""Which tokens may be drawn: top-k, top-p, min-p and typical-p, in that order, each on what the one before left.

The order is that of transformers. Temperature, penalties and biases come before all of them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# A few hundred best tokens nearly always suffice. The width never depends on the batch, so that a row's numbers
# are the same whoever stands beside it.
NARROW = 256


@dataclass(frozen=True, slots=True)
class Filters:
    """Parameters of ``m`` rows, each ``[m, 1]``; ``top_k`` 0 is no limit. ``typical_p`` None: no row wants it."""

    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    typical_p: Tensor | None

    def select(self, index: Tensor) -> "Filters":
        """The same for some of the rows."""
        typical = None if self.typical_p is None else self.typical_p.index_select(0, index)
        return Filters(
            self.top_k.index_select(0, index),
            self.top_p.index_select(0, index),
            self.min_p.index_select(0, index),
            typical,
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tokens each row may draw: ``logits`` (excluded ones at −inf) and ``ids``, both ``[m, width]``.

    ``complete [m]`` is false where tokens beyond the width might have been kept as well.
    """

    logits: Tensor
    ids: Tensor
    complete: Tensor


def candidates_select(
    scaled: Tensor, filters: Filters, *, width: int = NARROW, row_by_row: bool = False
) -> Candidates:
    """Look at the ``width`` best tokens of ``scaled [m, vocab]``, which has the temperature applied.

    ``row_by_row`` makes a row's candidates independent of the others to the last bit.
    """
    if row_by_row and len(scaled) > 1:
        return _row_by_row(scaled, filters, width)
    vocab = scaled.shape[1]
    width = min(width, vocab)
    limit = torch.where(filters.top_k > 0, filters.top_k.clamp(max=vocab), vocab)
    logits, ids = scaled.topk(width, dim=-1)
    rank = torch.arange(width, device=scaled.device).unsqueeze(0)
    inside = rank < limit
    kept = logits.masked_fill(~inside, float("-inf"))
    # A row cut by top-k is normalised over its k tokens; any other over the whole vocabulary.
    whole = scaled.logsumexp(dim=-1, keepdim=True)
    mass = torch.where(limit <= width, kept.logsumexp(dim=-1, keepdim=True), whole)
    probabilities = (kept - mass).exp()
    before = probabilities.cumsum(dim=-1) - probabilities
    keep = inside & ((before < filters.top_p) | (rank == 0))
    keep &= probabilities >= filters.min_p * probabilities[:, :1]
    # These filters cut a tail. If a row's last candidate survives, tokens beyond it might as well; and a top-k beyond
    # the width leaves the mass of its k tokens unknown.
    limit = limit.squeeze(1)
    complete = (limit <= width) | (~keep[:, -1] & (limit == vocab))
    if filters.typical_p is not None:
        keep = _typical(logits.masked_fill(~keep, float("-inf")), filters.typical_p)
    return Candidates(logits.masked_fill(~keep, float("-inf")), ids, complete)


def _row_by_row(scaled: Tensor, filters: Filters, width: int) -> Candidates:
    rows = torch.arange(len(scaled), device=scaled.device).split(1)
    found = [candidates_select(scaled.index_select(0, row), filters.select(row), width=width) for row in rows]
    return Candidates(
        torch.cat([one.logits for one in found]),
        torch.cat([one.ids for one in found]),
        torch.cat([one.complete for one in found]),
    )


def _typical(logits: Tensor, typical_p: Tensor) -> Tensor:
    """Locally typical sampling (Meister et al., 2023): the tokens whose information is nearest to the entropy, as
    many as it takes to hold ``typical_p`` of the mass. Excluded logits are −inf; gives what is kept.
    """
    allowed = logits > float("-inf")
    log_p = logits.log_softmax(dim=-1)
    p = log_p.exp()
    entropy = -torch.where(allowed, p * log_p, 0.0).sum(dim=-1, keepdim=True)
    distance = torch.where(allowed, (-log_p - entropy).abs(), float("inf"))
    order = distance.argsort(dim=-1, stable=True)
    sorted_p = p.gather(1, order)
    before = sorted_p.cumsum(dim=-1) - sorted_p
    first = torch.zeros_like(allowed)
    first[:, 0] = True
    kept = torch.empty_like(allowed).scatter_(1, order, (before < typical_p) | first)
    return allowed & (kept | (typical_p >= 1.0))
