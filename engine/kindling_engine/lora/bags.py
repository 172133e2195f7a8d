"""Many adapters with a row or two each on a CPU: two sums over a table's rows a site, and not three calls an adapter.

``embedding_bag`` adds up weighted rows of a table, whichever they are, without copying them. With the pool of slabs as
a table of rows of 8 numbers, ``x·A`` of 8 ranks is one bag: ``in`` rows, weighted with x. As a table of rows of W
numbers, W columns of ``s·B`` are one bag: r rows, weighted with what was shrunk. So each row of a step reads its own
adapter once, and nothing else. Rows are put together by signature, the ranks that an adapter has at each site; only
where matrices lie tells adapters of one signature apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kindling_engine.lora.slab_layout import FIELDS, SiteShape

LANES = 8
_WIDEST, _NARROWEST = 64, 8
_bags = torch.ops.aten._embedding_bag_forward_only.default

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Seat:
    """Where an adapter lies in a pool: ``offsets`` int64, ``firsts`` int32 ``[sites, 4]``, as in its slot's tables."""

    offsets: NDArray[np.int64]
    firsts: Ints

    @cached_property
    def signature(self) -> bytes:
        return self.firsts.tobytes()


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What sites of one kind share: ``firsts [4]`` and the site's shape make them."""

    shape: SiteShape
    width: int
    rows: Tensor
    scale: Tensor
    shrink_starts: Tensor
    pick: Tensor
    expand_starts: Tensor
    columns: tuple[tuple[int, int, int, int], ...]
    """``(first, last, start, stop)``: columns of the sums, and where they go."""


@dataclass(frozen=True, slots=True)
class _Site:
    pattern: _Pattern
    shrinks: Tensor
    expands: Tensor


class Bags:
    """The rows ``rows`` of a step, each with the adapter at the same place of ``seats``; all of one signature."""

    def __init__(
        self, pool: Tensor, shapes: Sequence[SiteShape], rows: Sequence[int], seats: Sequence[Seat]
    ) -> None:
        self.seats = tuple(seats)
        self.rows = tuple(rows)
        self._pool = pool.view(-1)
        self._tables: dict[int, Tensor] = {LANES: self._table(LANES)}
        joined = rows[-1] - rows[0] + 1 == len(rows)
        self._span = (rows[0], rows[-1] + 1) if joined else None
        self._row_index = torch.tensor(rows)
        self._sites: list[_Site | None] = [None] * len(shapes)
        offsets = np.stack([seat.offsets for seat in seats])
        for sites, pattern in self._patterns(shapes, seats[0].firsts):
            self._place(sites, pattern, offsets[:, sites], seats[0].firsts[sites[0]])

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        """Add every row's share to ``output [n, out]`` in place, from ``x [n, in]``."""
        here = self._sites[site]
        if here is None:
            return
        pattern = here.pattern
        picked = x.index_select(0, pattern.rows).view(-1)
        places = torch.add(here.shrinks, pattern.scale).view(-1)
        shrunk = _bags(
            self._tables[LANES], places, pattern.shrink_starts, False, 0, False, picked, False, -1
        )[0]
        weights = shrunk.index_select(0, pattern.pick).view(-1)
        table = self._tables[pattern.width]
        sums = _bags(table, here.expands, pattern.expand_starts, False, 0, False, weights, False, -1)[0]
        sums = sums.view(len(self.rows), -1)
        for first, last, start, stop in pattern.columns:
            columns = output[:, start:stop]
            if self._span is not None:
                columns[self._span[0] : self._span[1]].add_(sums[:, first:last])
            else:
                columns.index_add_(0, self._row_index, sums[:, first:last])

    def _patterns(self, shapes: Sequence[SiteShape], firsts: Ints) -> list[tuple[list[int], _Pattern]]:
        """Sites that the adapters have, by kind."""
        kinds: dict[tuple[SiteShape, bytes], list[int]] = {}
        for site, shape in enumerate(shapes):
            if firsts[site, -1]:
                kinds.setdefault((shape, firsts[site].tobytes()), []).append(site)
        return [(sites, self._pattern(shape, firsts[sites[0]])) for (shape, _), sites in kinds.items()]

    def _pattern(self, shape: SiteShape, firsts: Ints) -> _Pattern:
        count, lanes = len(self.rows), int(firsts[-1]) // LANES
        width = bag_width(shape)
        self._tables.setdefault(width, self._table(width))
        picks, lengths, done = [], [], 0
        columns: list[tuple[int, int, int, int]] = []
        for (start, size), first, last in _targets(shape, firsts):
            pieces = np.arange(first // LANES, last // LANES)
            picks.append(np.tile(pieces, size // width))
            lengths += [last - first] * (size // width)
            if columns and columns[-1][3] == start:
                columns[-1] = (columns[-1][0], done + size, columns[-1][2], start + size)
            else:
                columns.append((done, done + size, start, start + size))
            done += size
        pick = np.arange(count)[:, None] * lanes + np.concatenate(picks)[None]
        starts = np.cumsum([0, *(lengths * count)])[:-1]
        return _Pattern(
            shape,
            width,
            rows=torch.tensor(self.rows).repeat_interleave(lanes),
            scale=torch.arange(shape.in_features, dtype=torch.int32) * lanes,
            shrink_starts=torch.arange(count * lanes, dtype=torch.int32) * shape.in_features,
            pick=torch.from_numpy(pick.reshape(-1)),
            expand_starts=torch.from_numpy(starts.astype(np.int32)),
            columns=tuple(columns),
        )

    def _place(self, sites: list[int], pattern: _Pattern, offsets: NDArray[np.int64], firsts: Ints) -> None:
        """Table rows of the sites of a kind; ``offsets [rows, sites, 4]``."""
        by_site = offsets.transpose(1, 0, 2)
        lanes = int(firsts[-1]) // LANES
        shrinks = (by_site[:, :, :1] // LANES + np.arange(lanes)).astype(np.int32)
        pieces = []
        for index, ((_, size), first, last) in _numbered(pattern.shape, firsts):
            chunks = size // pattern.width
            inside = (np.arange(chunks)[:, None] + np.arange(last - first)[None] * chunks).reshape(-1)
            pieces.append(by_site[:, :, index + 1 : index + 2] // pattern.width + inside)
        expands = np.concatenate(pieces, axis=2).astype(np.int32)
        for place, site in enumerate(sites):
            self._sites[site] = _Site(
                pattern,
                torch.from_numpy(shrinks[place].reshape(-1, 1)),
                torch.from_numpy(expands[place].reshape(-1)),
            )

    def _table(self, width: int) -> Tensor:
        return self._pool[: self._pool.numel() // width * width].view(-1, width)


def bag_width(shape: SiteShape) -> int:
    """Columns of a bag at a site: what divides all of its targets' widths, 64 at most."""
    return gcd(_WIDEST, *shape.widths)


def bags_fit(shapes: Sequence[SiteShape], dtype: torch.dtype) -> bool:
    """Whether every site can be taken by bags; rows that are too short would cost more than they save."""
    wide = all(bag_width(shape) >= _NARROWEST for shape in shapes if shape.widths)
    return dtype == torch.float32 and wide


def _targets(shape: SiteShape, firsts: Ints) -> list[tuple[tuple[int, int], int, int]]:
    """``((start, width), first rank, last rank)`` of the targets that are there."""
    return [target for _, target in _numbered(shape, firsts)]


def _numbered(shape: SiteShape, firsts: Ints) -> list[tuple[int, tuple[tuple[int, int], int, int]]]:
    found = []
    for index, place in enumerate(zip(shape.starts, shape.widths, strict=True)):
        first, last = int(firsts[index]), int(firsts[min(index + 1, FIELDS - 1)])
        if last > first:
            found.append((index, (place, first, last)))
    return found
