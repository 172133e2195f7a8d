"""Adapters of one step and their application: rows are grouped by adapter once, then each site adds its
share.

``y += (x·Aᵀ)·B`` per group, where A ``[r, in]`` holds the ranks of all targets of a site and B ``[r, out]``
those of one target with the scale folded in. Rows without an adapter appear in no group and cost nothing.
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Expand:
    """One target's B: ranks ``first`` to ``last`` of the shrunk rows go to columns ``start`` to ``stop``."""

    first: int
    last: int
    start: int
    stop: int
    weight: Tensor


@dataclass(frozen=True, slots=True)
class SiteWeights:
    """One adapter's part at one site of one layer."""

    shrink: Tensor
    expands: tuple[Expand, ...]


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter ready to run: one entry per site of the model, None where it has no target there."""

    sites: tuple[SiteWeights | None, ...]
    size_bytes: int
    rank: int


@dataclass(frozen=True, slots=True)
class LoraGroup:
    """The rows of one adapter as runs ``(start, stop)`` of the step's tokens."""

    spans: tuple[tuple[int, int], ...]
    weights: AdapterWeights


@dataclass(frozen=True, slots=True)
class LoraBatch:
    """All groups of a step; never empty, as a step without adapters has no LoraBatch."""

    groups: tuple[LoraGroup, ...]

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        """Add every group's share to ``output [n, out]`` in place, from the site's input ``x [n, in]``."""
        for group in self.groups:
            weights = group.weights.sites[site]
            if weights is None:
                continue
            for start, stop in group.spans:
                shrunk = F.linear(x[start:stop], weights.shrink)
                for expand in weights.expands:
                    output[start:stop, expand.start : expand.stop].addmm_(
                        shrunk[:, expand.first : expand.last], expand.weight
                    )
