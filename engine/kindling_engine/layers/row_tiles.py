"""Functions of rows whose results do not depend on how many rows there are.

A product chooses its kernel, and with it the order of its sums, by the number of rows; vectors end in scalars at the
end of an array. So rows go in tiles of a few fixed heights, and only of heights that were seen to give equal bits:
for the same row in all of them, at every place of a tile, beside other neighbours. Which heights those are, a
function's kernels decide on the machine at hand, not the values; so a trial with random rows settles it, once per
shape and number of threads. A height of one row always remains.
"""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

HEIGHTS = (1, 2, 4, 8, 16, 32, 64)
# Orders of summing that differ agree by chance in about every second value; so many never do.
_VALUES = 1024
# Kernels may peel off what lies before an aligned address.
_ALIGNMENT_BYTES = 64

RowFunction = Callable[[Tensor], Tensor]
"""From ``[n, …]`` to ``[n, …]``, each row by itself but for rounding."""

_proven: dict[Hashable, tuple[int, ...]] = {}


class RowTiles:
    """``function`` with bits that are the same for a row in any company.

    Functions of equal ``kind`` run the same kernels for rows of equal shape. ``trial_rows`` are compared at least:
    many where kernels differ in few places and rarely.
    """

    __slots__ = ("_function", "_kind", "_trial_rows")

    def __init__(self, function: RowFunction, kind: Hashable, *, trial_rows: int = 1) -> None:
        self._function = function
        self._kind = kind
        self._trial_rows = trial_rows

    def __call__(self, x: Tensor) -> Tensor:
        """``x [n, …]`` with at least one row."""
        heights = heights_proven(self._function, (self._kind, x.shape[1:]), x, trial_rows=self._trial_rows)
        count = x.shape[0]
        if count in heights:
            return self._function(aligned(x))
        parts = []
        for part in x.split(heights[-1]):
            made = self._function(padded(part, height_for(part.shape[0], heights)))
            parts.append(made[: part.shape[0]])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def heights_proven(
    function: RowFunction, kind: Hashable, like: Tensor, *, trial_rows: int = 1
) -> tuple[int, ...]:
    """Heights, in ascending order, in which a row shaped as those of ``like`` gets the same bits."""
    key = (kind, like.dtype, torch.get_num_threads())
    found = _proven.get(key)
    if found is None:
        found = _proven[key] = _prove(function, like, trial_rows)
    return found


def height_for(count: int, heights: tuple[int, ...]) -> int:
    """The least of ``heights`` that holds ``count`` rows; the greatest if none does."""
    return next((height for height in heights if height >= count), heights[-1])


def padded(x: Tensor, height: int) -> Tensor:
    """``x`` with rows of zeros up to ``height``, in memory as an array of its own has it."""
    if x.shape[0] == height:
        return aligned(x)
    whole = x.new_zeros((height, *x.shape[1:]))
    whole[: x.shape[0]] = x
    return whole


def aligned(x: Tensor) -> Tensor:
    """``x``, copied unless it is contiguous and begins where an array of its own would."""
    if x.is_contiguous():
        return x if x.data_ptr() % _ALIGNMENT_BYTES == 0 else x.clone()
    return x.contiguous()


def _prove(function: RowFunction, like: Tensor, trial_rows: int) -> tuple[int, ...]:
    """The greatest height whose rows do not care for their place leads; lower ones stay if they agree with it."""
    wanted = max(trial_rows, -(-_VALUES // function(like[:1].contiguous()).numel()))
    rows = _random((wanted + 2 * HEIGHTS[-1], *like.shape[1:]), like)
    # A function that takes a scale from all of its rows gives itself away: only the first tile has this one.
    rows[0] *= 64
    proven: list[int] = []
    led = rows
    for height in reversed(HEIGHTS):
        if not proven:
            led = torch.cat([function(padded(part, height))[: len(part)] for part in rows.split(height)])
        # From the second row on: every row stands elsewhere in its tile than it did when it was led.
        starts = range(1, 1 + max(wanted, height - 1), height)
        if all(bits_equal(function(rows[at : at + height].clone()), led[at : at + height]) for at in starts):
            proven.append(height)
    return tuple(reversed(proven))


def _random(shape: tuple[int, ...], like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator).to(dtype=like.dtype, device=like.device)


def bits_equal(left: Tensor, right: Tensor) -> bool:
    """Equal bit for bit: zeros by their sign as well, and NaN as itself."""
    return torch.equal(left.contiguous().view(torch.uint8), right.contiguous().view(torch.uint8))
