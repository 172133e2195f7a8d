"""The second half of a step's adapters at a site: what was shrunk times each target's B, added to the site's output.

    output[order[p], c] += Σ_r (Σ_s shrunk[s, p, first_i + r]) · B_i[r, c − start_i],    c in the columns of target i

for each place p of ``order`` whose token has an adapter: all targets in one launch, nothing read or written for tokens
without an adapter, nor in columns of a target that the adapter leaves alone. A scale is part of B.

A tile of one or two tokens is bound by reading B and multiplies it in registers. Larger ones use the matrix units, to
whose dtype the shrunk state is rounded. Either way loops end at the adapter's own rank.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.language import dot
from kindling_engine.kernels.lora_segment import Segments
from kindling_engine.kernels.tuning import TUNER, Config, Key
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.lora.slabs import SlabTables


def _config(columns: int, n: int, r: int, warps: int, stages: int) -> Config:
    return Config({"COLUMNS": columns, "BLOCK_N": n, "BLOCK_R": r}, num_warps=warps, num_stages=stages)


CONFIGS = (
    _config(512, 64, 16, 2, 1),
    _config(512, 64, 16, 4, 1),
    _config(256, 64, 16, 4, 1),
    _config(256, 64, 32, 4, 1),
    _config(512, 128, 16, 4, 1),
    _config(256, 128, 32, 8, 2),
)
"""COLUMNS of a program, BLOCK_N of them at a time in a product over BLOCK_R ranks. Where threads have eight columns
each, one load of each rank, they need not ask one another for the sum over ranks."""

_SMALL = (0, 1, 4)
_LARGE = (2, 3, 4, 5)
"""Of CONFIGS by the step's tokens. A compiler has made NaNs of 128 columns at a time on sm_90, so those come last: they
run only where they were measured, and nothing is measured before its numbers are right."""


def lora_expand_reference(
    shrunk: Tensor, segments: Segments, tables: SlabTables, site: int, shape: SiteShape, output: Tensor
) -> Tensor:
    """``output [n, out]`` with each token's share added, from fp32 ``shrunk [n, max_rank]`` by place; a new tensor."""
    total = output.to(torch.float32, copy=True)
    for slot, first, count, _ in segments.tiles.tolist():
        if slot < 0:
            continue
        tokens = segments.order[first : first + count].long()
        ranks, offsets = tables.firsts[slot, site].tolist(), tables.offsets[slot, site].tolist()
        for index, (start, width) in enumerate(zip(shape.starts, shape.widths, strict=True)):
            rank = ranks[index + 1] - ranks[index]
            begin = offsets[index + 1]
            matrix = tables.pool[begin : begin + rank * width].view(rank, width).float()
            share = shrunk[first : first + count, ranks[index] : ranks[index + 1]] @ matrix
            total[tokens, start : start + width] += share
    return total.to(output.dtype)


def lora_expand(
    shrunk: Tensor,
    segments: Segments,
    tables: SlabTables,
    site: int,
    shape: SiteShape,
    output: Tensor,
    *,
    config: Config | None = None,
) -> None:
    """As ``lora_expand_reference`` for the sum of ``shrunk [parts, n, max_rank]`` over its parts, in place.

    ``output [n, out]`` of the pool's dtype, rows contiguous. The grid depends on n alone, and nothing waits for the
    device.
    """
    parts, rows, max_rank = shrunk.shape
    assert output.stride(1) == 1 and output.dtype == tables.pool.dtype and shrunk.is_contiguous()
    assert rows == output.shape[0] and shape.start + sum(shape.widths) <= output.shape[1]
    chosen = config or TUNER.chosen(expand_key(rows, shape, output.dtype), configs_for(rows))
    columns = chosen.tiles["COLUMNS"]
    widths = (*shape.widths, 0, 0, 0)[:3]
    _expand_kernel[(segments.tiles.shape[0], sum(triton.cdiv(width, columns) for width in widths))](
        shrunk,
        tables.pool,
        tables.offsets,
        tables.firsts,
        segments.order,
        segments.tiles,
        output,
        output.stride(0),
        tables.offsets.shape[1],
        site,
        rows,
        max_rank,
        PARTS=parts,
        START=shape.start,
        WIDTH_0=widths[0],
        WIDTH_1=widths[1],
        WIDTH_2=widths[2],
        BLOCK_M=segments.block,
        **chosen.arguments(),
    )


def configs_for(rows: int) -> tuple[Config, ...]:
    """Those of CONFIGS for a step of ``rows`` tokens, the likeliest first."""
    return tuple(CONFIGS[index] for index in (_SMALL if rows <= 256 else _LARGE))


def expand_key(rows: int, shape: SiteShape, dtype: torch.dtype) -> Key:
    """What a choice of configuration depends on."""
    return ("lora_expand", configs_for(rows)[0], shape, dtype)


@triton.jit(do_not_specialize=["sites", "site", "rows"])
def _expand_kernel(
    shrunk,
    pool,
    offsets,
    firsts,
    order,
    tiles,
    output,
    output_stride,
    sites,
    site,
    rows,
    max_rank,
    PARTS: tl.constexpr,
    START: tl.constexpr,
    WIDTH_0: tl.constexpr,
    WIDTH_1: tl.constexpr,
    WIDTH_2: tl.constexpr,
    BLOCK_M: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """A tile of tokens by some columns of one target."""
    # As in the first half, what needs nothing of one another is read together.
    tile = tiles + tl.program_id(0) * 4
    slot = tl.load(tile)
    first = tl.load(tile + 1)
    count = tl.load(tile + 2)
    if (slot >= 0) & (first >= 0) & (count > 0):
        BLOCKS_0: tl.constexpr = (WIDTH_0 + COLUMNS - 1) // COLUMNS
        BLOCKS_1: tl.constexpr = (WIDTH_1 + COLUMNS - 1) // COLUMNS
        block = tl.program_id(1)
        second = block >= BLOCKS_0
        third = block >= BLOCKS_0 + BLOCKS_1
        before = tl.where(third, BLOCKS_0 + BLOCKS_1, tl.where(second, BLOCKS_0, 0))
        start = tl.where(third, START + WIDTH_0 + WIDTH_1, tl.where(second, START + WIDTH_0, START))
        width = tl.where(third, WIDTH_2, tl.where(second, WIDTH_1, WIDTH_0))
        index = second.to(tl.int32) + third.to(tl.int32)
        entry = (slot * sites + site) * 4 + index
        # What ranks and places are multiples of, a number that is read does not tell by itself.
        rank_first = tl.multiple_of(tl.load(firsts + entry), 4)
        rank = tl.multiple_of(tl.load(firsts + entry + 1), 4) - rank_first
        place = tl.multiple_of(tl.load(offsets + entry + 1), 32)
        one = tl.load(order + first).to(tl.int64)
        two = tl.load(order + first + 1, mask=count > 1, other=0).to(tl.int64)
        if (rank > 0) & (place >= 0) & (one >= 0) & (two >= 0):
            matrix = pool + place
            left = shrunk + first.to(tl.int64) * max_rank + rank_first
            column = (block - before) * COLUMNS
            if count <= 2:
                _expand_rows(
                    left, matrix, one, two, output + start, count, rank, column, width, output_stride,
                    rows, max_rank, PARTS, COLUMNS, BLOCK_R,
                )  # fmt: skip
            else:
                _expand_tile(
                    left, matrix, order + first, output + start, count, rank, column, width, output_stride,
                    rows, max_rank, PARTS, BLOCK_M, COLUMNS, BLOCK_N, BLOCK_R,
                )  # fmt: skip


@triton.jit
def _expand_rows(
    left,
    matrix,
    one,
    two,
    output,
    count,
    rank,
    begin,
    width,
    output_stride,
    rows,
    max_rank,
    PARTS: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """One token or two, B read once for both and no matrix unit involved."""
    pair = tl.arange(0, 2)
    token = tl.where(pair == 0, one, two)
    column = begin + tl.arange(0, COLUMNS)
    place = output + token[:, None] * output_stride + column[None, :]
    stored = (pair < count)[:, None] & (column < width)[None, :]
    base = tl.load(place, mask=stored, other=0.0)
    part = tl.arange(0, PARTS).to(tl.int64) * rows * max_rank
    state = left + part[:, None, None] + pair[None, :, None] * max_rank
    acc = tl.zeros([2, COLUMNS], tl.float32)
    for start in range(0, rank, BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        exists = r < rank
        b = tl.load(
            matrix + r[None, :, None] * width + column[None, None, :],
            mask=exists[None, :, None] & (column < width)[None, None, :],
            other=0.0,
        )
        wanted = (pair < count)[None, :, None] & exists[None, None, :]
        a = tl.sum(tl.load(state + r[None, None, :], mask=wanted, other=0.0), 0)
        acc += tl.sum(a[:, :, None] * b.to(tl.float32), 1)
    tl.store(place, (base.to(tl.float32) + acc).to(output.dtype.element_ty), mask=stored)


@triton.jit
def _expand_tile(
    left,
    matrix,
    order,
    output,
    count,
    rank,
    begin,
    width,
    output_stride,
    rows,
    max_rank,
    PARTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    COLUMNS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Up to BLOCK_M tokens, BLOCK_N columns after another."""
    m = tl.arange(0, BLOCK_M)
    present = m < count
    token = tl.load(order + m, mask=present, other=0).to(tl.int64)
    part = tl.arange(0, PARTS).to(tl.int64) * rows * max_rank
    state = left + part[:, None, None] + m.to(tl.int64)[None, :, None] * max_rank
    for offset in range(begin, tl.minimum(begin + COLUMNS, width), BLOCK_N):
        column = offset + tl.arange(0, BLOCK_N)
        inside = column < width
        place = output + token[:, None] * output_stride + column[None, :]
        stored = present[:, None] & inside[None, :]
        base = tl.load(place, mask=stored, other=0.0)
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, rank, BLOCK_R):
            r = start + tl.arange(0, BLOCK_R)
            exists = r < rank
            wanted = present[None, :, None] & exists[None, None, :]
            a = tl.sum(tl.load(state + r[None, None, :], mask=wanted, other=0.0), 0)
            b = tl.load(
                matrix + r[:, None] * width + column[None, :],
                mask=exists[:, None] & inside[None, :],
                other=0.0,
            )
            acc = dot(a.to(b.dtype), b, acc)
        tl.store(place, (base.to(tl.float32) + acc).to(output.dtype.element_ty), mask=stored)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: an 8 B model's fused sites and a single one, few tokens and many."""
    for block_m, parts, widths, configs in (
        (16, 8, (4096, 1024, 1024), configs_for(64)),
        (64, 4, (14336, 14336, 0), configs_for(2048)),
        (64, 1, (4096, 0, 0), configs_for(2048)[:1]),
    ):
        for config in configs:
            yield Case(
                f"lora_expand {block_m} to {sum(widths)}",
                _expand_kernel,
                (
                    *(torch.float32, torch.bfloat16, torch.int64, torch.int32, torch.int32, torch.int32),
                    *(torch.bfloat16, sum(widths), 128, 4, 2048, 768),
                ),
                {
                    "PARTS": parts,
                    "START": 0,
                    **{f"WIDTH_{index}": width for index, width in enumerate(widths)},
                    "BLOCK_M": block_m,
                },
                config,
            )
