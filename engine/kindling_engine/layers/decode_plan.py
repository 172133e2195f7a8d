"""How a step's decode rows are read on a CPU: prefixes that rows share once, and the rest in groups.

Rows of a group are padded to its longest. One group for all would make a short row pay for the longest one of
the step; one group per row would pay for many small products.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE

# What one more product costs a layer, as the number of pages that can be read in that time.
_PRODUCT_PAGES = 24

Blocks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """``pages`` that stand at the head of all of ``rows``; None is all rows of the step."""

    rows: Tensor | None
    pages: Tensor


@dataclass(frozen=True, slots=True)
class DecodeGroup:
    """Rows read together, each from the page where its own part begins.

    ``pages [count · width]`` are padded with block 0; ``mask [count, 1, width · PAGE_SIZE]`` is additive, None
    when every row fills its pages.
    """

    rows: Tensor | None
    count: int
    pages: Tensor
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """Together the groups hold every row once."""

    groups: tuple[DecodeGroup, ...]
    shared: tuple[SharedPrefix, ...]


def plan_make(
    blocks: Blocks, lengths: Blocks, window: int | None, *, dtype: torch.dtype, device: torch.device
) -> DecodePlan:
    """Plan for ``blocks [count, width]`` and ``lengths [count]``, this step's token included."""
    first_seen = np.zeros_like(lengths) if window is None else np.maximum(lengths - window, 0)
    first_page = first_seen // PAGE_SIZE
    shared = []
    if not first_seen.any():
        for rows, width in _prefixes(blocks, lengths):
            first_page[rows] = width
            pages = torch.from_numpy(blocks[rows[0], :width].copy()).to(device)
            shared.append(SharedPrefix(_index(rows, lengths, device), pages))
    widths = -(-lengths // PAGE_SIZE) - first_page
    groups = []
    for rows in _groups(widths):
        width = int(widths[rows].max())
        # A short row's index may run past its table; what it reads there is masked.
        index = first_page[rows, None] + np.arange(width)
        inside = index < blocks.shape[1]
        own = np.take_along_axis(blocks[rows], np.where(inside, index, 0), axis=1) * inside
        position = first_page[rows, None] * PAGE_SIZE + np.arange(width * PAGE_SIZE)
        hidden = (position >= lengths[rows, None]) | (position < first_seen[rows, None])
        groups.append(
            DecodeGroup(
                _index(rows, lengths, device),
                len(rows),
                torch.from_numpy(own.reshape(-1)).to(device),
                _additive(hidden, dtype).to(device) if hidden.any() else None,
            )
        )
    return DecodePlan(tuple(groups), tuple(shared))


def _prefixes(blocks: Blocks, lengths: Blocks) -> list[tuple[Blocks, int]]:
    """Rows that begin with the same blocks, and how many of those; only where reading them once pays."""
    if len(lengths) == 1:
        return []
    found = []
    # The page of the current token belongs to its row alone.
    whole = (lengths - 1) // PAGE_SIZE
    heads, member = np.unique(blocks[:, 0], return_inverse=True)
    for head in range(len(heads)):
        rows = np.flatnonzero(member == head)
        width = int(whole[rows].min())
        if len(rows) < 2 or width == 0:
            continue
        equal = (blocks[rows, :width] == blocks[rows[0], :width]).all(axis=0)
        width = width if equal.all() else int(equal.argmin())
        if (len(rows) - 1) * width >= 2 * _PRODUCT_PAGES:
            found.append((rows, width))
    return found


def _groups(widths: Blocks) -> list[Blocks]:
    """Rows by width, cut where the padding that a cut saves is worth a product of its own.

    Order inside a group is that of the step; a single group keeps it altogether.
    """
    order = np.argsort(-widths, kind="stable")
    ordered = widths[order]
    groups, start = [], 0
    while start < len(order):
        left = len(order) - start
        saved = (left - np.arange(left)) * (ordered[start] - ordered[start:])
        cut = int(saved.argmax())
        stop = start + cut if saved[cut] > _PRODUCT_PAGES else len(order)
        groups.append(np.sort(order[start:stop]))
        start = stop
    return groups


def _index(rows: Blocks, lengths: Blocks, device: torch.device) -> Tensor | None:
    """Row numbers as a tensor; None when they are all rows in order."""
    return None if len(rows) == len(lengths) else torch.from_numpy(rows).to(device)


def _additive(hidden: NDArray[np.bool_], dtype: torch.dtype) -> Tensor:
    mask = torch.zeros(hidden.shape, dtype=dtype)
    return mask.masked_fill_(torch.from_numpy(hidden), float("-inf")).unsqueeze(1)
