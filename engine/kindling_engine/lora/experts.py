"""An adapter's part in a mixture of experts: low-rank matrices for each expert, applied to rows sorted by expert.

Rows of one adapter keep the order of experts among themselves, so its products are grouped as those of the experts are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""From W ``[out, in]`` to x → x·Wᵀ."""


@dataclass(frozen=True, slots=True)
class ExpertPair:
    """A ``[experts, r, in]`` and B ``[experts, out, r]``, scaled; with DoRA ``gain [experts, out]``.

    Ranks are padded with zeros to a multiple of 8, which grouped products want.
    """

    shrink: Tensor
    expand: Tensor
    gain: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """One adapter's part in the experts of one layer."""

    count: int
    gate_up: ExpertPair | None
    down: ExpertPair | None


@dataclass(frozen=True, slots=True)
class ExpertShare:
    """One adapter's rows among those sorted by expert: their places ``[m]``, ascending, and how many are whose."""

    weights: ExpertWeights
    places: Tensor
    counts: Tensor
    linear: Linear

    @classmethod
    def of(
        cls,
        weights: ExpertWeights,
        spans: tuple[tuple[int, int], ...],
        chosen: Tensor,
        places: Tensor,
        linear: Linear,
    ) -> Self:
        """Of an adapter's tokens, from all tokens' experts and places ``[n, k]``; nothing waits for the device."""
        experts = torch.cat([chosen[start:stop] for start, stop in spans]).flatten()
        mine = torch.cat([places[start:stop] for start, stop in spans]).flatten().sort().values
        counts = torch.zeros(weights.count, dtype=torch.int64, device=chosen.device)
        counts.scatter_add_(0, experts, torch.ones_like(experts))
        return cls(weights, mine, counts, linear)

    def add(self, output: Tensor, x: Tensor, pair: ExpertPair | None) -> None:
        """Add the share to ``output [n, out]`` in place, from ``x [n, in]``, both sorted by expert."""
        if pair is None:
            return
        made = self._products(self._products(x.index_select(0, self.places), pair.shrink), pair.expand)
        if pair.gain is not None:
            gain = pair.gain.repeat_interleave(self.counts, 0, output_size=len(self.places))
            made += gain * output.index_select(0, self.places)
            output.index_copy_(0, self.places, made)
        else:
            output.index_add_(0, self.places, made)

    def _products(self, x: Tensor, weights: Tensor) -> Tensor:
        """Each row of x with its expert's matrix of ``weights [experts, out, in]``."""
        if x.device.type == "cpu":
            return separate_products(x, weights, self.counts, self.linear)
        return grouped_products(x, weights, self.counts)


def separate_products(x: Tensor, weights: Tensor, counts: Tensor, linear: Linear) -> Tensor:
    """One product for each expert that has rows."""
    parts = x.split_with_sizes(counts.tolist())
    return torch.cat([linear(weights[expert])(rows) for expert, rows in enumerate(parts) if len(rows)])


def grouped_products(x: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
    """One product for all, whose bounds stay on the device."""
    return F.grouped_mm(x, weights.transpose(1, 2), offs=counts.cumsum(0).to(torch.int32))
