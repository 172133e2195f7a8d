"""Adapters of one step and their application: rows are grouped by adapter once, then each site adds its
share.

``y += (x·Aᵀ)·B`` per group, where A ``[r, in]`` holds the ranks of all targets of a site and B ``[r, out]``
those of one target with the scale folded in. Rows without an adapter appear in no group and cost nothing.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Self

import torch.nn.functional as F
from torch import Tensor

from kindling_engine.lora.experts import ExpertShare, ExpertWeights

if TYPE_CHECKING:
    from kindling_engine.jit.adapters import AdapterRows
    from kindling_engine.lora.bags import Seat


@dataclass(frozen=True, slots=True)
class Expand:
    """One target's B: ranks ``first`` to ``last`` of the shrunk rows go to columns ``start`` to ``stop``.

    With DoRA (Liu et al., 2024) what is there is multiplied by ``gain [out]`` before, and ``offset [out]`` is added:
    of ``g·(W·x) + b`` the part that the base has not made, if it has a bias. The gain is folded into B as well.
    """

    first: int
    last: int
    start: int
    stop: int
    weight: Tensor
    gain: Tensor | None = None
    offset: Tensor | None = None


@dataclass(frozen=True, slots=True)
class SiteWeights:
    """One adapter's part at one site of one layer."""

    shrink: Tensor
    expands: tuple[Expand, ...]


@dataclass(frozen=True, slots=True)
class TableWeights:
    """One adapter's part of the token table: rows of A ``[vocab, r]`` by token, B ``[hidden, r]``, DoRA's gain."""

    rows: Tensor
    weight: Tensor
    gain: Tensor | None = None


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter ready to run: one entry per site of the model, None where it has no target there.

    ``table`` and ``head`` stand at both ends of the model, ``experts`` in its mixtures, by layer. ``slot`` is which
    slot of a pool they are in, ``seat`` where their matrices lie there, if the pool is the host's memory. So many
    ``borrowed_blocks`` of the KV cache hold them; none if they lie in the pool's own part.
    """

    sites: tuple[SiteWeights | None, ...]
    size_bytes: int
    rank: int
    table: TableWeights | None = None
    head: SiteWeights | None = None
    experts: Mapping[int, ExpertWeights] = field(default_factory=dict)
    seat: "Seat | None" = None
    slot: int | None = None
    borrowed_blocks: int = 0

    @property
    def plain(self) -> bool:
        """Whether products at the sites, each added to what is there, are all that it does."""
        if self.table is not None or self.head is not None or self.experts:
            return False
        return all(expand.gain is None for site in self.sites if site is not None for expand in site.expands)


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
            if weights is not None:
                self._add(output, x, group.spans, weights)

    def seated(self, rows: int) -> "AdapterRows | None":
        """The step's ``rows`` with where each one's adapter lies, for compiled code; None where some lie elsewhere."""
        del rows
        return None

    def add_head(self, logits: Tensor, x: Tensor) -> None:
        """Likewise to ``logits [m, vocab]``, from final states ``x [m, hidden]``: the rows are those of the logits."""
        for group in self.groups:
            if group.weights.head is not None:
                self._add(logits, x, group.spans, group.weights.head)

    def add_table(self, output: Tensor, tokens: Tensor) -> None:
        """Likewise to the embeddings ``output [n, hidden]`` of ``tokens [n]``."""
        for group in self.groups:
            weights = group.weights.table
            if weights is None:
                continue
            for start, stop in group.spans:
                rows = output[start:stop]
                shrunk = F.embedding(tokens[start:stop], weights.rows)
                if weights.gain is not None:
                    rows.mul_(weights.gain)
                rows.add_(self.linear(weights.weight)(shrunk))

    def in_experts(self, layer: int) -> bool:
        """Whether any group has a part in the experts of a layer."""
        return any(layer in group.weights.experts for group in self.groups)

    def shares(self, layer: int, chosen: Tensor, places: Tensor) -> Sequence[ExpertShare]:
        """Every group's part in the experts of a layer.

        Of a token's experts ``chosen [n, k]`` and the places ``[n, k]`` of its rows among those sorted by expert.
        """
        return [
            ExpertShare.of(weights, group.spans, chosen, places, self.linear)
            for group in self.groups
            if (weights := group.weights.experts.get(layer)) is not None
        ]

    def at_rows(self, wanted: Sequence[int]) -> Self | None:
        """What the head has to add where only the logits of the tokens ``wanted`` are made; None for nothing."""
        groups = []
        for group in self.groups:
            if group.weights.head is not None:
                spans = _runs([i for i, row in enumerate(wanted) if _within(row, group.spans)])
                groups += [replace(group, spans=spans)] if spans else []
        return replace(self, groups=tuple(groups)) if groups else None

    def narrowed(self, wanted: Sequence[int]) -> "LoraBatch | None":
        """The batch of the tokens ``wanted`` alone, in this order; None where none has an adapter."""
        groups = []
        for group in self.groups:
            spans = _runs([place for place, row in enumerate(wanted) if _within(row, group.spans)])
            groups += [replace(group, spans=spans)] if spans else []
        return LoraBatch(tuple(groups)) if groups else None

    def of_one(self, token: int) -> "LoraBatch | None":
        """The batch of any number of rows that all have one token's adapter; None where it has none."""
        groups = [
            LoraGroup(((0, sys.maxsize),), group.weights)
            for group in self.groups
            if _within(token, group.spans)
        ]
        return LoraBatch(tuple(groups)) if groups else None

    def linear(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """``x·Wᵀ`` of W, as the batch makes products that are not added on the way."""
        return partial(F.linear, weight=weight)

    def _add(
        self, output: Tensor, x: Tensor, spans: tuple[tuple[int, int], ...], weights: SiteWeights
    ) -> None:
        for start, stop in spans:
            shrunk = F.linear(x[start:stop], weights.shrink)
            for expand in weights.expands:
                columns = regained(output[start:stop, expand.start : expand.stop], expand)
                columns.addmm_(shrunk[:, expand.first : expand.last], expand.weight)


def regained(columns: Tensor, expand: Expand) -> Tensor:
    """A target's columns after the part of DoRA that needs no products; in place."""
    if expand.gain is not None:
        columns.mul_(expand.gain)
        if expand.offset is not None:
            columns.add_(expand.offset)
    return columns


def _within(row: int, spans: tuple[tuple[int, int], ...]) -> bool:
    return any(start <= row < stop for start, stop in spans)


def _runs(places: list[int]) -> tuple[tuple[int, int], ...]:
    """Ascending numbers as runs ``(start, stop)``."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return tuple(runs)
