"""A mixture of experts (Shazeer et al., 2017) with sizes that stay on the device: route, sort, multiply, combine.

    y_i = Σ_j p_ij · down[e_ij]·(act(g) ⊙ u),    (g, u) = gate_up[e_ij]·x_i,    p_i = softmax(router·x_i)

over the ``top_k`` experts e_ij of highest p_i, in the order of their scores; both products may have biases.
Assignments ``i · top_k + j`` are sorted by expert into tiles of BLOCK_M rows, each of one expert, the last one padded;
the number of tiles is the most there can be for the number of tokens, and programs of those that are not needed end at
once, so that a graph replays whatever the routing. Sorting is stable, and atomics count assignments alone: a token's
result does not depend on who else is routed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.activation import Kind, gate
from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.language import dot
from kindling_engine.kernels.moe_reference import NO_BIASES, Biases, Routing
from kindling_engine.kernels.tuning import TUNER, Config, Key, size_class

CONFIGS = tuple(
    Config({"BLOCK_M": m, "BLOCK_N": n, "BLOCK_K": k}, num_warps=warps, num_stages=stages)
    for m, n, k, warps, stages in (
        (16, 64, 128, 4, 4),
        (16, 128, 64, 4, 4),
        (64, 128, 64, 4, 3),
        (128, 128, 64, 8, 3),
    )
)
"""Of the grouped product. Few rows per expert are bound by reading weights, which wants many bytes in flight."""

_COMBINE_BLOCK = 1024
_SORT_BLOCK = 1024
_LOG2_E = tl.constexpr(1.4426950408889634)


@dataclass(frozen=True, slots=True)
class Tiles:
    """``order`` int32 ``[tiles · block]``: assignments by expert, n · top_k where a tile is padded; ``experts`` int32
    ``[tiles]``: the expert of each, −1 for tiles that are not needed."""

    order: Tensor
    experts: Tensor
    block: int


def sparse_mlp(
    x: Tensor,
    scores: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    kind: Kind,
    top_k: int,
    normalised: bool,
    biases: Biases = NO_BIASES,
    config: Config | None = None,
) -> Tensor:
    """As ``sparse_mlp_reference``, in six launches and a memset.

    Rows of ``x`` and ``scores`` may lie apart; weights and biases are contiguous.
    """
    first = config_default(x.shape[0] * top_k, scores.shape[1])
    chosen = config or TUNER.chosen(experts_key(x, gate_up, top_k), (first,))
    routing = route(scores, top_k, normalised=normalised)
    tiles = tiles_make(routing, chosen.tiles["BLOCK_M"])
    gated = gate(grouped_linear(x, gate_up, tiles, top_k=top_k, bias=biases[0], config=chosen), kind)
    made = grouped_linear(gated, down, tiles, top_k=1, bias=biases[1], config=chosen)
    return combine(made, routing.weights)


def experts_key(x: Tensor, gate_up: Tensor, top_k: int) -> Key:
    """What a choice of configuration depends on."""
    rows, hidden = x.shape
    experts, both, _ = gate_up.shape
    return ("sparse_mlp", hidden, both // 2, experts, top_k, x.dtype, size_class(rows))


def config_default(assignments: int, experts: int) -> Config:
    """By the rows that an expert has on average."""
    average = assignments / experts
    if average <= 32:
        return CONFIGS[0]
    return CONFIGS[2] if average <= 128 else CONFIGS[3]


def route(scores: Tensor, top_k: int, *, normalised: bool) -> Routing:
    """As ``route_reference``; of equal scores the lower expert comes first."""
    rows, experts = scores.shape
    weights = torch.empty((rows, top_k), dtype=torch.float32, device=scores.device)
    chosen = torch.empty((rows, top_k), dtype=torch.int32, device=scores.device)
    counts = torch.zeros(experts, dtype=torch.int32, device=scores.device)
    _route_kernel[(rows,)](
        scores,
        weights,
        chosen,
        counts,
        scores.stride(0),
        EXPERTS=experts,
        TOP_K=top_k,
        BLOCK=triton.next_power_of_2(experts),
        BLOCK_K=triton.next_power_of_2(top_k),
        NORMALISED=normalised,
        num_warps=1,
    )
    return Routing(weights, chosen, counts)


def tiles_make(routing: Routing, block: int) -> Tiles:
    """Sort assignments by expert, each expert's padded to a multiple of ``block``; one program per expert."""
    total, experts = routing.experts.numel(), routing.counts.shape[0]
    most = (total + min(experts, total) * (block - 1)) // block
    order = torch.empty(most * block, dtype=torch.int32, device=routing.experts.device)
    owners = torch.empty(most, dtype=torch.int32, device=routing.experts.device)
    _sort_kernel[(experts,)](
        routing.experts,
        routing.counts,
        order,
        owners,
        total,
        most,
        EXPERTS=experts,
        BLOCK_EXPERTS=triton.next_power_of_2(experts),
        BLOCK_M=block,
        BLOCK=_SORT_BLOCK,
        num_warps=4,
    )
    return Tiles(order, owners, block)


def grouped_linear(
    x: Tensor,
    weights: Tensor,
    tiles: Tiles,
    *,
    top_k: int,
    bias: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """``W_e·x + b_e`` for every assignment a, whose row of ``x`` is ``a // top_k``: 1 where x has a row for each.

    ``weights [experts, out, in]`` and ``bias [experts, out]`` contiguous; gives ``[n · top_k, out]`` in the order of
    assignments. ``config`` must have the tiles' BLOCK_M.
    """
    total = x.shape[0] * top_k
    chosen = config or next(one for one in CONFIGS if one.tiles["BLOCK_M"] == tiles.block)
    _, width, depth = weights.shape
    output = torch.empty((total, width), dtype=x.dtype, device=x.device)
    grid = (tiles.experts.shape[0], triton.cdiv(width, chosen.tiles["BLOCK_N"]))
    _grouped_kernel[grid](
        x,
        weights,
        bias,
        output,
        tiles.order,
        tiles.experts,
        total,
        x.stride(0),
        TOP_K=top_k,
        WIDTH=width,
        DEPTH=depth,
        **chosen.arguments(),
    )
    return output


def combine(made: Tensor, weights: Tensor) -> Tensor:
    """``Σ_j weights[i, j] · made[i · top_k + j]`` in order, fp32, weights rounded to the dtype of ``made`` first."""
    rows, top_k = weights.shape
    hidden = made.shape[1]
    output = torch.empty((rows, hidden), dtype=made.dtype, device=made.device)
    _combine_kernel[(rows, triton.cdiv(hidden, _COMBINE_BLOCK))](
        made, weights, output, TOP_K=top_k, HIDDEN=hidden, BLOCK=_COMBINE_BLOCK, num_warps=4
    )
    return output


@triton.jit
def _route_kernel(
    scores,
    weights,
    chosen,
    counts,
    stride,
    EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_K: tl.constexpr,
    NORMALISED: tl.constexpr,
):
    """One token per program."""
    row = tl.program_id(0).to(tl.int64)
    expert = tl.arange(0, BLOCK)
    score = tl.load(scores + row * stride + expert, mask=expert < EXPERTS, other=float("-inf")).to(tl.float32)
    share = tl.exp2((score - tl.max(score)) * _LOG2_E)
    share = share / tl.sum(share)
    place = tl.arange(0, BLOCK_K)
    weight = tl.zeros([BLOCK_K], tl.float32)
    best_experts = tl.zeros([BLOCK_K], tl.int32)
    for index in tl.static_range(TOP_K):
        best = tl.max(share)
        # A score that is no number equals none; its token goes to an expert that exists all the same.
        at = tl.minimum(tl.min(tl.where(share == best, expert, BLOCK)), EXPERTS - 1)
        weight = tl.where(place == index, best, weight)
        best_experts = tl.where(place == index, at, best_experts)
        share = tl.where(expert == at, -1.0, share)
    if NORMALISED:
        weight = weight / tl.sum(weight)
    tl.store(weights + row * TOP_K + place, weight, mask=place < TOP_K)
    tl.store(chosen + row * TOP_K + place, best_experts, mask=place < TOP_K)
    tl.atomic_add(counts + best_experts, 1, mask=place < TOP_K)


# The number of tokens changes from step to step, and must not have a kernel compiled anew.
@triton.jit(do_not_specialize=["total", "most"])
def _sort_kernel(
    chosen,
    counts,
    order,
    owners,
    total,
    most,
    EXPERTS: tl.constexpr,
    BLOCK_EXPERTS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One expert per program, which looks for its own among all assignments."""
    own = tl.program_id(0)
    expert = tl.arange(0, BLOCK_EXPERTS)
    count = tl.load(counts + expert, mask=expert < EXPERTS, other=0)
    tiles = (count + BLOCK_M - 1) // BLOCK_M
    first = tl.sum(tl.where(expert < own, tiles, 0))
    last = first + tl.sum(tl.where(expert == own, tiles, 0))
    for start in range(first, last, BLOCK):
        tile = start + tl.arange(0, BLOCK)
        tl.store(owners + tile, own + tl.zeros_like(tile), mask=tile < last)
    if own == EXPERTS - 1:
        for start in range(last, most, BLOCK):
            tile = start + tl.arange(0, BLOCK)
            tl.store(owners + tile, tl.full([BLOCK], -1, tl.int32), mask=tile < most)
    place = order + first * BLOCK_M
    seen = 0
    for start in range(0, total, BLOCK):
        assignment = start + tl.arange(0, BLOCK)
        mine = tl.load(chosen + assignment, mask=assignment < total, other=-1) == own
        tl.store(place + seen + tl.cumsum(mine.to(tl.int32)) - 1, assignment, mask=mine)
        seen += tl.sum(mine.to(tl.int32))
    padding = seen + tl.arange(0, BLOCK_M)
    tl.store(place + padding, total + tl.zeros_like(padding), mask=padding < (last - first) * BLOCK_M)


@triton.jit(do_not_specialize=["total"])
def _grouped_kernel(
    x,
    weights,
    bias,
    output,
    order,
    owners,
    total,
    x_stride,
    TOP_K: tl.constexpr,
    WIDTH: tl.constexpr,
    DEPTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """A tile of rows by a block of columns. Tiles vary fastest, so that an expert's weights are read once."""
    tile = tl.program_id(0)
    expert = tl.load(owners + tile)
    if expert >= 0:
        assignment = tl.load(order + tile * BLOCK_M + tl.arange(0, BLOCK_M))
        inside = assignment < total
        row = (assignment // TOP_K).to(tl.int64)
        column = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
        depth = tl.arange(0, BLOCK_K)
        left = x + row[:, None] * x_stride + depth[None, :]
        # Columns behind the last repeat others, and are not stored.
        matrix = weights + expert.to(tl.int64) * WIDTH * DEPTH
        right = matrix + (column % WIDTH)[None, :] * DEPTH + depth[:, None]
        acc = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in range(0, DEPTH, BLOCK_K):
            if DEPTH % BLOCK_K == 0:
                a = tl.load(left + start, mask=inside[:, None], other=0.0)
                b = tl.load(right + start)
            else:
                a = tl.load(left + start, mask=inside[:, None] & (depth + start < DEPTH)[None, :], other=0.0)
                b = tl.load(right + start, mask=(depth + start < DEPTH)[:, None], other=0.0)
            acc = dot(a, b, acc)
        if bias is not None:
            acc += tl.load(bias + expert.to(tl.int64) * WIDTH + column % WIDTH).to(tl.float32)[None, :]
        target = output + assignment.to(tl.int64)[:, None] * WIDTH + column[None, :]
        tl.store(target, acc.to(output.dtype.element_ty), mask=inside[:, None] & (column < WIDTH)[None, :])


@triton.jit
def _combine_kernel(made, weights, output, TOP_K: tl.constexpr, HIDDEN: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < HIDDEN
    total = tl.zeros([BLOCK], tl.float32)
    for index in tl.static_range(TOP_K):
        weight = tl.load(weights + row * TOP_K + index).to(made.dtype.element_ty).to(tl.float32)
        state = tl.load(made + (row * TOP_K + index) * HIDDEN + column, mask=inside, other=0.0)
        total += weight * state.to(tl.float32)
    tl.store(output + row * HIDDEN + column, total.to(output.dtype.element_ty), mask=inside)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: 128 experts, eight for a token, hidden 2048, inner 768 (Qwen3-30B-A3B)."""
    # A router's scores are as wide as its weights; trials give it fp32.
    for scores in (torch.bfloat16, torch.float32):
        yield Case(
            f"moe route {scores}".replace("torch.", ""),
            _route_kernel,
            (scores, torch.float32, torch.int32, torch.int32, 128),
            {"EXPERTS": 128, "TOP_K": 8, "BLOCK": 128, "BLOCK_K": 8, "NORMALISED": True},
            Config(num_warps=1),
        )
    yield Case(
        "moe sort",
        _sort_kernel,
        (*(torch.int32,) * 4, 4096, 383),
        {"EXPERTS": 128, "BLOCK_EXPERTS": 128, "BLOCK_M": 16, "BLOCK": _SORT_BLOCK},
        Config(num_warps=4),
    )
    yield Case(
        "moe combine",
        _combine_kernel,
        (torch.bfloat16, torch.float32, torch.bfloat16),
        {"TOP_K": 8, "HIDDEN": 2048, "BLOCK": _COMBINE_BLOCK},
        Config(num_warps=4),
    )
    for config, bias in [(config, None) for config in CONFIGS] + [(CONFIGS[0], torch.bfloat16)]:
        narrow = torch.bfloat16
        yield Case(
            "moe grouped" + (" bias" if bias else ""),
            _grouped_kernel,
            (narrow, narrow, bias, narrow, torch.int32, torch.int32, 4096, 2048),
            {"TOP_K": 8, "WIDTH": 1536, "DEPTH": 2048},
            config,
        )
