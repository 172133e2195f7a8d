"""Which tokens of a step have which adapter, worked out on the device once for all sites of all layers.

Tokens are sorted by the slot of their adapter, and cut into tiles of at most BLOCK_M tokens of one slot:

    place(i) = #{j : s_j < s_i} + #{j < i : s_j = s_i},    tile = (slot, first place, count)

with s the slots and a token without an adapter behind all others. The number of tiles is the most there can be for so
many tokens and slots; programs of those that are not needed end at once, so that a graph replays whatever the adapters
of its rows, and a token without an adapter is in none. Sorting counts pairs, which is stable, needs no atomics and
takes some microseconds for the tokens of a step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.tuning import Config

CONFIGS = tuple(
    Config({"BLOCK_I": i, "BLOCK_J": j}, num_warps=4, num_stages=1) for i, j in ((16, 256), (32, 128))
)

FEW_ROWS, MANY_ROWS = 16, 64
"""Tokens of a tile: the fewest that matrix units take, and what a prompt's many want."""

_DECODE_ROWS = 256
_TILE_BLOCK = 1024
_FIELDS = tl.constexpr(4)
_NO_SLOT = tl.constexpr(0x7FFFFFFF)


@dataclass(frozen=True, slots=True)
class Segments:
    """``order`` int32 ``[n]``: tokens by slot, those without an adapter last. ``tiles`` int32 ``[tiles, 4]``: slot,
    first place in ``order``, count and nothing; slot −1 for tiles that are not needed. ``block``: the most tokens of
    one.
    """

    order: Tensor
    tiles: Tensor
    block: int


def segments_reference(slots: Tensor, block: int, *, num_slots: int) -> Segments:
    """For ``slots`` int32 ``[n]``: each token's adapter slot, at most ``num_slots`` different ones, and −1 for none."""
    listed = slots.tolist()
    with_adapter = sorted((slot, token) for token, slot in enumerate(listed) if slot >= 0)
    order = [token for _, token in with_adapter] + [token for token, slot in enumerate(listed) if slot < 0]
    tiles = []
    for place, (slot, _) in enumerate(with_adapter):
        if tiles and tiles[-1][0] == slot and tiles[-1][2] < block:
            tiles[-1][2] += 1
        else:
            tiles.append([slot, place, 1, 0])
    tiles += [[-1, 0, 0, 0]] * (tiles_most(len(listed), block, num_slots) - len(tiles))
    made = torch.tensor(tiles, dtype=torch.int32, device=slots.device)
    return Segments(torch.tensor(order, dtype=torch.int32, device=slots.device), made, block)


def segments_make(slots: Tensor, block: int, *, num_slots: int, config: Config | None = None) -> Segments:
    """As ``segments_reference``, in two launches; nothing waits for the device."""
    rows = slots.shape[0]
    chosen = config or CONFIGS[0]
    order = torch.empty(rows, dtype=torch.int32, device=slots.device)
    members = torch.empty((rows, 4), dtype=torch.int32, device=slots.device)
    most = tiles_most(rows, block, num_slots)
    tiles = torch.empty((most, 4), dtype=torch.int32, device=slots.device)
    grid = (triton.cdiv(rows, chosen.tiles["BLOCK_I"]),)
    _order_kernel[grid](slots, order, members, rows, **chosen.arguments())
    _tiles_kernel[(1,)](members, tiles, rows, most, BLOCK_M=block, BLOCK=_TILE_BLOCK, num_warps=4)
    return Segments(order, tiles, block)


def tiles_most(rows: int, block: int, num_slots: int) -> int:
    """The most tiles that ``rows`` tokens of ``num_slots`` adapters can need: each one's last may hold one."""
    return max(1, (rows + min(rows, num_slots) * (block - 1)) // block)


def block_for(rows: int) -> int:
    """Tokens of a tile in a step of ``rows`` tokens: a decode step has few of each adapter, a prompt many."""
    return FEW_ROWS if rows <= _DECODE_ROWS else MANY_ROWS


@triton.jit(do_not_specialize=["rows"])
def _order_kernel(slots, order, members, rows, BLOCK_I: tl.constexpr, BLOCK_J: tl.constexpr):
    """Places of BLOCK_I tokens among all; ``members`` gets, by place: slot, tokens of it before, and all of it."""
    own = tl.program_id(0) * BLOCK_I + tl.arange(0, BLOCK_I)
    slot = tl.load(slots + own, mask=own < rows, other=-1)
    key = tl.where(slot < 0, _NO_SLOT, slot)
    below = tl.zeros([BLOCK_I], tl.int32)
    before = tl.zeros([BLOCK_I], tl.int32)
    same = tl.zeros([BLOCK_I], tl.int32)
    for start in range(0, rows, BLOCK_J):
        other = start + tl.arange(0, BLOCK_J)
        exists = (other < rows)[None, :]
        theirs = tl.load(slots + other, mask=other < rows, other=-1)
        their_key = tl.where(theirs < 0, _NO_SLOT, theirs)[None, :]
        equal = (their_key == key[:, None]) & exists
        below += tl.sum(((their_key < key[:, None]) & exists).to(tl.int32), 1)
        before += tl.sum((equal & (other[None, :] < own[:, None])).to(tl.int32), 1)
        same += tl.sum(equal.to(tl.int32), 1)
    place = below + before
    tl.store(order + place, own, mask=own < rows)
    tl.store(members + place * 4, slot, mask=own < rows)
    tl.store(members + place * 4 + 1, before, mask=own < rows)
    tl.store(members + place * 4 + 2, same, mask=own < rows)


@triton.jit(do_not_specialize=["rows", "most"])
def _tiles_kernel(members, tiles, rows, most, BLOCK_M: tl.constexpr, BLOCK: tl.constexpr):
    """One program: a tile begins at every BLOCK_M-th token of a slot."""
    found = 0
    for start in range(0, rows, BLOCK):
        place = start + tl.arange(0, BLOCK)
        inside = place < rows
        slot = tl.load(members + place * 4, mask=inside, other=-1)
        before = tl.load(members + place * 4 + 1, mask=inside, other=0)
        same = tl.load(members + place * 4 + 2, mask=inside, other=0)
        begins = (slot >= 0) & (before % BLOCK_M == 0)
        tile = tiles + (found + tl.cumsum(begins.to(tl.int32)) - 1) * _FIELDS
        tl.store(tile, slot, mask=begins)
        tl.store(tile + 1, place, mask=begins)
        tl.store(tile + 2, tl.minimum(same - before, BLOCK_M), mask=begins)
        found += tl.sum(begins.to(tl.int32))
    for start in range(found, most, BLOCK):
        place = start + tl.arange(0, BLOCK)
        tl.store(tiles + place * _FIELDS, tl.full([BLOCK], -1, tl.int32), mask=place < most)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: the sizes of a step are no constants of it."""
    for config in CONFIGS:
        yield Case("lora order", _order_kernel, (*(torch.int32,) * 3, 2048), {}, config)
    yield Case(
        "lora tiles",
        _tiles_kernel,
        (torch.int32, torch.int32, 2048, 96),
        {"BLOCK_M": 64, "BLOCK": _TILE_BLOCK},
        Config(num_warps=4),
    )
