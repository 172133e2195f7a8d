"""The first half of a step's adapters at a site: every token's state times its own adapter's A, all targets at once.

    shrunk[s, p, :] = Σ_k x[order[p], k] · A[:, k],    k in the s-th part of the input's width

for each place p of ``order`` whose token has an adapter, A ``[r, in]`` the ranks of all targets of the site. The width
is cut into parts that run side by side (split-K), which is what a small matrix against a few tokens needs to fill a
device; the parts are summed by whoever reads them, in order, so that no atomic decides about a bit.

A tile of one or two tokens is bound by reading A and multiplies it in registers. Larger ones use the matrix units.
Either way loops end at the adapter's own rank.
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


def _config(parts: int, lanes: int, r: int, k: int, vector: int, warps: int, stages: int) -> Config:
    tiles = {"PARTS": parts, "LANES": lanes, "BLOCK_R": r, "BLOCK_K": k, "VECTOR_K": vector}
    return Config(tiles, num_warps=warps, num_stages=stages)


CONFIGS = (
    _config(8, 4, 16, 128, 256, 4, 3),
    _config(16, 2, 16, 128, 128, 2, 4),
    _config(4, 2, 16, 128, 512, 4, 4),
    _config(4, 1, 64, 64, 256, 4, 4),
    _config(2, 1, 32, 128, 256, 4, 3),
    _config(1, 1, 64, 64, 256, 8, 4),
)
"""PARTS of the width, LANES side by side over ranks, BLOCK_R × BLOCK_K of A at a time, or VECTOR_K of 16 ranks in
registers."""

_SMALL = (0, 1, 2)
_MEDIUM = (2, 0)
_LARGE = (3, 4, 5)
"""Of CONFIGS by the step's tokens: few of them need many programs each, many make enough by themselves."""


def lora_shrink_reference(x: Tensor, segments: Segments, tables: SlabTables, site: int) -> Tensor:
    """fp32 ``[n, max_rank]`` by place, for ``x [n, in]``; zeros behind an adapter's rank and for tokens without one."""
    shrunk = torch.zeros(x.shape[0], tables.max_rank, device=x.device)
    for slot, first, count, _ in segments.tiles.tolist():
        if slot < 0:
            continue
        rank, begin = int(tables.firsts[slot, site, 3]), int(tables.offsets[slot, site, 0])
        matrix = tables.pool[begin : begin + rank * x.shape[1]].view(rank, x.shape[1])
        tokens = segments.order[first : first + count].long()
        shrunk[first : first + count, :rank] = x[tokens].float() @ matrix.float().T
    return shrunk


def lora_shrink(
    x: Tensor,
    segments: Segments,
    tables: SlabTables,
    site: int,
    shape: SiteShape,
    *,
    config: Config | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Parts of ``lora_shrink_reference``, which they sum up to: fp32 ``[parts, n, max_rank]``; in ``out`` if given.

    ``x [n, in]`` of the pool's dtype, rows contiguous. Nothing is written behind an adapter's rank, nor for tokens
    without one. The grid depends on n alone, and nothing waits for the device.
    """
    rows, depth = x.shape
    assert depth == shape.in_features and x.stride(1) == 1 and x.dtype == tables.pool.dtype
    chosen = config or TUNER.chosen(shrink_key(rows, shape, x.dtype), configs_for(rows))
    parts = chosen.tiles["PARTS"]
    if out is None:
        out = torch.empty((parts, rows, tables.max_rank), dtype=torch.float32, device=x.device)
    _shrink_kernel[(segments.tiles.shape[0], parts, chosen.tiles["LANES"])](
        x,
        tables.pool,
        tables.offsets,
        tables.firsts,
        segments.order,
        segments.tiles,
        out,
        x.stride(0),
        tables.offsets.shape[1],
        site,
        rows,
        tables.max_rank,
        DEPTH=depth,
        BLOCK_M=segments.block,
        **chosen.arguments(),
    )
    return out


def configs_for(rows: int) -> tuple[Config, ...]:
    """Those of CONFIGS for a step of ``rows`` tokens, the likeliest first."""
    chosen = _SMALL if rows <= 64 else _MEDIUM if rows <= 256 else _LARGE
    return tuple(CONFIGS[index] for index in chosen)


def shrink_key(rows: int, shape: SiteShape, dtype: torch.dtype) -> Key:
    """What a choice of configuration depends on."""
    return ("lora_shrink", configs_for(rows)[0], shape.in_features, dtype)


@triton.jit(do_not_specialize=["sites", "site", "rows"])
def _shrink_kernel(
    x,
    pool,
    offsets,
    firsts,
    order,
    tiles,
    out,
    x_stride,
    sites,
    site,
    rows,
    max_rank,
    DEPTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
    VECTOR_K: tl.constexpr,
):
    """A tile of tokens, a part of the width, every LANES-th block of ranks."""
    # What needs nothing of one another is read together: each load that waits for another is a third of a microsecond,
    # of the few that the whole takes in a decode. Conditions beside slot and rank hold always; without them the
    # compiler moves loads behind the branches.
    tile = tiles + tl.program_id(0) * 4
    slot = tl.load(tile)
    first = tl.load(tile + 1)
    count = tl.load(tile + 2)
    if (slot >= 0) & (first >= 0) & (count > 0):
        entry = (slot * sites + site) * 4
        rank = tl.load(firsts + entry + 3)
        # Matrices begin at multiples of 128 bytes, which a number that is read does not tell by itself.
        place = tl.multiple_of(tl.load(offsets + entry), 32)
        one = tl.load(order + first).to(tl.int64)
        two = tl.load(order + first + 1, mask=count > 1, other=0).to(tl.int64)
        if (tl.program_id(2) * 16 < rank) & (place >= 0) & (one >= 0) & (two >= 0):
            matrix = pool + place
            part = tl.program_id(1)
            target = out + (part * rows + first).to(tl.int64) * max_rank
            if count <= 2:
                _shrink_rows(
                    x + one * x_stride, x + two * x_stride, matrix, target, count, rank, part, max_rank,
                    DEPTH, PARTS, LANES, VECTOR_K,
                )  # fmt: skip
            else:
                _shrink_tile(
                    x, matrix, order + first, target, count, rank, part, x_stride, max_rank,
                    DEPTH, BLOCK_M, PARTS, LANES, BLOCK_R, BLOCK_K,
                )  # fmt: skip


@triton.jit
def _shrink_rows(
    one_row,
    two_row,
    matrix,
    target,
    count,
    rank,
    part,
    max_rank,
    DEPTH: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One token or two, A read once for both and no matrix unit involved."""
    STEPS: tl.constexpr = (DEPTH + PARTS * BLOCK_K - 1) // (PARTS * BLOCK_K)
    begin = part * STEPS * BLOCK_K
    end = tl.minimum(begin + STEPS * BLOCK_K, DEPTH)
    two = count > 1
    for start in range(tl.program_id(2) * 16, rank, LANES * 16):
        r = start + tl.arange(0, 16)
        inside = r < rank
        row = matrix + r[:, None] * DEPTH
        one_acc = tl.zeros([16], tl.float32)
        two_acc = tl.zeros([16], tl.float32)
        for depth in tl.range(begin, end, BLOCK_K, num_stages=4):
            k = depth + tl.arange(0, BLOCK_K)
            wide = k < DEPTH
            a = tl.load(row + k[None, :], mask=inside[:, None] & wide[None, :], other=0.0).to(tl.float32)
            one_x = tl.load(one_row + k, mask=wide, other=0.0).to(tl.float32)
            two_x = tl.load(two_row + k, mask=wide & two, other=0.0).to(tl.float32)
            one_acc += tl.sum(a * one_x[None, :], 1)
            two_acc += tl.sum(a * two_x[None, :], 1)
        tl.store(target + r, one_acc, mask=inside)
        tl.store(target + max_rank + r, two_acc, mask=inside & two)


@triton.jit
def _shrink_tile(
    x,
    matrix,
    order,
    target,
    count,
    rank,
    part,
    x_stride,
    max_rank,
    DEPTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    PARTS: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_R: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Up to BLOCK_M tokens."""
    STEPS: tl.constexpr = (DEPTH + PARTS * BLOCK_K - 1) // (PARTS * BLOCK_K)
    begin = part * STEPS * BLOCK_K
    end = tl.minimum(begin + STEPS * BLOCK_K, DEPTH)
    m = tl.arange(0, BLOCK_M)
    present = m < count
    token = tl.load(order + m, mask=present, other=0).to(tl.int64)
    k = tl.arange(0, BLOCK_K)
    left = x + token[:, None] * x_stride + k[None, :]
    for start in range(tl.program_id(2) * BLOCK_R, rank, LANES * BLOCK_R):
        r = start + tl.arange(0, BLOCK_R)
        inside = r < rank
        right = matrix + r[None, :] * DEPTH + k[:, None]
        acc = tl.zeros([BLOCK_M, BLOCK_R], tl.float32)
        for depth in range(begin, end, BLOCK_K):
            if DEPTH % BLOCK_K == 0:
                a = tl.load(left + depth, mask=present[:, None], other=0.0)
                b = tl.load(right + depth, mask=inside[None, :], other=0.0)
            else:
                wide = k + depth < DEPTH
                a = tl.load(left + depth, mask=present[:, None] & wide[None, :], other=0.0)
                b = tl.load(right + depth, mask=inside[None, :] & wide[:, None], other=0.0)
            acc = dot(a, b, acc)
        place = target + m.to(tl.int64)[:, None] * max_rank + r[None, :]
        tl.store(place, acc, mask=present[:, None] & inside[None, :])


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: an 8 B model's sites, tiles of few tokens and of many."""
    for block_m, depth, configs in ((16, 4096, configs_for(64)), (64, 14336, configs_for(2048))):
        for config in configs:
            yield Case(
                f"lora_shrink {block_m} of {depth}",
                _shrink_kernel,
                (
                    *(torch.bfloat16, torch.bfloat16, torch.int64, torch.int32, torch.int32, torch.int32),
                    *(torch.float32, depth, 128, 4, 2048, 768),
                ),
                {"DEPTH": depth, "BLOCK_M": block_m},
                config,
            )
