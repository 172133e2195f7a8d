"""What decode and prefill over paged KV share: one tile of keys, folded into a running softmax.

The running state of each query row is ``maximum`` (of the scores, times log₂ e), ``total`` (of the weights
2^(score − maximum)) and ``output`` (weights times values), all fp32 (Milakov and Gimelshein, 2018; Dao, 2023).
"""

import triton
import triton.language as tl

from kindling_engine.kernels.language import dot, widened
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention_spec import AttentionSpec

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453

_LOG2_E = tl.constexpr(LOG2_E)
_PAGE = tl.constexpr(PAGE_SIZE)
LOWEST = tl.constexpr(-1e30)
"""A running maximum before any key. Finite, so that a row whose keys are all hidden subtracts no infinities."""


def score_factor(spec: AttentionSpec) -> float:
    """What q·k is multiplied by, before 2^x or the cap's tanh."""
    if spec.softcap is None:
        return spec.scale * LOG2_E
    return 2 * LOG2_E * spec.scale / spec.softcap


@triton.jit
def page_ids(table, start, offsets, stop):
    """The pages of keys ``start + offsets``, the null block where a key is past the last; ``start`` begins a page.

    Offsets are the same for all tiles, so that one address serves all of a thread's loads and moves by a constant.
    """
    return tl.load(table + start // _PAGE + offsets // _PAGE, mask=start + offsets < stop, other=0)


@triton.jit
def first_page_key(position, WINDOW: tl.constexpr):
    """The first key of the first page that a query at ``position`` sees."""
    if WINDOW == 0:
        return position * 0
    return tl.maximum(position - WINDOW + 1, 0) // _PAGE * _PAGE


@triton.jit
def total_begun(weight, BLOCK_N: tl.constexpr):
    """A total that begins with ``weight [BLOCK_M]``; where warps share rows, as in decode, one for each place of a
    tile.

    Those are summed up at the end alone: a sum over warps is three barriers, for every tile.
    """
    if weight.shape[0] < 64:
        weight = tl.where(tl.arange(0, BLOCK_N)[None, :] == 0, weight[:, None], 0.0)
    return weight


@triton.jit
def total_ended(total):
    """The total of each row."""
    if len(total.shape) == 2:
        total = tl.sum(total, 1)
    return total


@triton.jit
def fold_tile(
    query,
    key_head,
    value_head,
    pages,
    keys,
    stop,
    position,
    factor,
    maximum,
    total,
    output,
    HEAD_DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Fold ``keys [BLOCK_N]`` of ``pages [BLOCK_N]`` into the state of ``query [BLOCK_M, BLOCK_D]``.

    Where MASKED, rows see keys up to their ``position [BLOCK_M]`` and within the window, and nothing from ``stop`` on
    is read: another request may have left anything there, and zero times NaN is NaN.
    """
    columns = tl.arange(0, query.shape[1])
    # Tiles begin at a page's first slot, so a key's slot depends on its place in the tile alone.
    slots = tl.arange(0, keys.shape[0]) % _PAGE
    # Added first, it is part of addresses that all tiles share, and a page costs one multiply-add for each of its own.
    place = slots[:, None] * HEAD_DIM + columns[None, :]
    page = pages.to(tl.int64)[:, None] * (_PAGE * HEAD_DIM)
    if MASKED:
        inside = (keys < stop)[:, None] & (columns < HEAD_DIM)[None, :]
        key = tl.load(key_head + place + page, mask=inside, other=0.0)
        value = tl.load(value_head + place + page, mask=inside, other=0.0)
    elif query.shape[1] != HEAD_DIM:
        inside = (columns < HEAD_DIM)[None, :]
        key = tl.load(key_head + place + page, mask=inside, other=0.0)
        value = tl.load(value_head + place + page, mask=inside, other=0.0)
    else:
        key = tl.load(key_head + place + page)
        value = tl.load(value_head + place + page)
    scores = dot(
        query,
        tl.trans(widened(key, query.dtype)),
        tl.zeros((query.shape[0], keys.shape[0]), dtype=tl.float32),
    )
    if SOFTCAP != 0.0:
        # cap·tanh(x) = cap·(1 − 2 / (1 + e^2x)), times log₂ e; e^2x may overflow to infinity, and the quotient is 0.
        scores = (SOFTCAP * _LOG2_E) * (1.0 - 2.0 / (1.0 + tl.exp2(scores * factor)))
        factor = 1.0
    if MASKED:
        seen = keys[None, :] <= position[:, None]
        if WINDOW != 0:
            seen = seen & (keys[None, :] > position[:, None] - WINDOW)
        scores = tl.where(seen, scores, float("-inf"))
    largest = tl.maximum(maximum, tl.max(scores, 1) * factor)
    weights = tl.exp2(scores * factor - largest[:, None])
    decay = tl.exp2(maximum - largest)
    if len(total.shape) == 2:
        total = total * decay[:, None] + weights
    else:
        total = total * decay + tl.sum(weights, 1)
    output = dot(weights.to(query.dtype), widened(value, query.dtype), output * decay[:, None])
    return largest, total, output


@triton.jit
def normalised(total, output):
    """Outputs over their weights' sums; zeros for rows that saw nothing."""
    return output / tl.where(total > 0.0, total, 1.0)[:, None]


@triton.jit
def log2_sum(maximum, total):
    """log₂ of the softmax's sum; −∞ for rows that saw nothing."""
    return tl.where(total > 0.0, maximum + tl.log2(tl.where(total > 0.0, total, 1.0)), float("-inf"))
