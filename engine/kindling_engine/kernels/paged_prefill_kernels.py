"""The kernel of prefill over paged KV."""

import triton
import triton.language as tl

from kindling_engine.kernels.paged_tiles import (
    LN_2,
    LOG2_E,
    LOWEST,
    first_page_key,
    fold_tile,
    log2_sum,
    normalised,
    page_ids,
)

_LN_2 = tl.constexpr(LN_2)
_LOG2_E = tl.constexpr(LOG2_E)


# Numbers that are read one by one, wherever in a step's input they begin: told apart by where that is, and by how many
# there are, they would have the kernel compiled anew in the midst of serving.
@triton.jit(do_not_specialize=["block_tables", "rows", "query_starts", "lengths", "requests"])
def paged_prefill_kernel(
    query,
    key_pages,
    value_pages,
    block_tables,
    rows,
    query_starts,
    lengths,
    sinks,
    key_scale,
    value_scale,
    out,
    lse,
    factor,
    requests,
    query_stride,
    head_stride,
    table_stride,
    out_stride,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    REQUESTS: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One KV head and one tile of (token, head of the group) rows of one request; the heaviest tiles start first."""
    TOKENS: tl.constexpr = BLOCK_M // GROUP
    kv_head = tl.program_id(0)
    item = tl.num_programs(1) - 1 - tl.program_id(1)
    # Request i's tiles are numbered from start // TOKENS + i on: enough for each, and no running sum over the others.
    every = tl.arange(0, REQUESTS)
    starts = tl.load(query_starts + every, mask=every < requests, other=0)
    begun = (every < requests) & (starts // TOKENS + every <= item)
    request = tl.maximum(tl.sum(begun.to(tl.int32)) - 1, 0)
    start = tl.load(query_starts + request)
    count = tl.load(query_starts + request + 1) - start
    token = (item - start // TOKENS - request) * TOKENS
    if (token < 0) | (token >= count):
        return
    before = tl.load(lengths + request) - count
    first_position = before + token
    stop = before + tl.minimum(token + TOKENS, count)
    row = tl.arange(0, BLOCK_M)
    own = token + row // GROUP
    position = before + own
    valid = (row < TOKENS * GROUP) & (own < count)
    place = (start + own).to(tl.int64)
    head = kv_head * GROUP + row % GROUP
    columns = tl.arange(0, BLOCK_D)
    inside = valid[:, None] & (columns < HEAD_DIM)[None, :]
    asked = tl.load(
        query + place[:, None] * query_stride + (head[:, None] * HEAD_DIM + columns[None, :]),
        mask=inside,
        other=0.0,
    )
    if key_scale is not None:
        factor *= tl.load(key_scale + kv_head)
    maximum = tl.full((BLOCK_M,), LOWEST, dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    output = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    if sinks is not None:
        # A key without a value, seen first.
        maximum = tl.where(valid, tl.load(sinks + head, mask=valid, other=0.0) * _LOG2_E, maximum)
        total = valid.to(tl.float32)

    # Keys from ``edge`` on are in the window of every row, and those before ``diagonal`` are before every row.
    first = first_page_key(first_position, WINDOW)
    diagonal = first + (first_position + 1 - first) // BLOCK_N * BLOCK_N
    table = block_tables + tl.load(rows + request).to(tl.int64) * table_stride
    key_head = key_pages + kv_head.to(tl.int64) * head_stride
    value_head = value_pages + kv_head.to(tl.int64) * head_stride
    edge = first
    if WINDOW != 0:
        edge += tl.cdiv(tl.maximum(stop - WINDOW - first, 0), BLOCK_N) * BLOCK_N
        edge = tl.minimum(edge, diagonal)
        maximum, total, output = _sweep(
            asked,
            key_head,
            value_head,
            table,
            first,
            edge,
            stop,
            position,
            factor,
            maximum,
            total,
            output,
            HEAD_DIM=HEAD_DIM,
            WINDOW=WINDOW,
            SOFTCAP=SOFTCAP,
            BLOCK_N=BLOCK_N,
            MASKED=True,
        )
    maximum, total, output = _sweep(
        asked,
        key_head,
        value_head,
        table,
        edge,
        diagonal,
        stop,
        position,
        factor,
        maximum,
        total,
        output,
        HEAD_DIM=HEAD_DIM,
        WINDOW=WINDOW,
        SOFTCAP=SOFTCAP,
        BLOCK_N=BLOCK_N,
        MASKED=False,
    )
    maximum, total, output = _sweep(
        asked,
        key_head,
        value_head,
        table,
        diagonal,
        stop,
        stop,
        position,
        factor,
        maximum,
        total,
        output,
        HEAD_DIM=HEAD_DIM,
        WINDOW=WINDOW,
        SOFTCAP=SOFTCAP,
        BLOCK_N=BLOCK_N,
        MASKED=True,
    )
    output = normalised(total, output)
    if value_scale is not None:
        output *= tl.load(value_scale + kv_head)
    target = out + place[:, None] * out_stride + (head[:, None] * HEAD_DIM + columns[None, :])
    tl.store(target, output.to(out.dtype.element_ty), mask=inside)
    if lse is not None:
        heads = tl.num_programs(0) * GROUP
        tl.store(lse + place * heads + head, log2_sum(maximum, total) * _LN_2, mask=valid)


@triton.jit
def _sweep(
    asked,
    key_head,
    value_head,
    table,
    first,
    last,
    stop,
    position,
    factor,
    maximum,
    total,
    output,
    HEAD_DIM: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Fold the tiles from ``first`` to ``last``."""
    offsets = tl.arange(0, BLOCK_N)
    pages = page_ids(table, first, offsets, stop)
    for start in range(first, last, BLOCK_N):
        keys = start + offsets
        # The next tile's pages: its loads must not wait for them.
        ahead = page_ids(table, start + BLOCK_N, offsets, stop)
        maximum, total, output = fold_tile(
            asked,
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
            HEAD_DIM=HEAD_DIM,
            WINDOW=WINDOW,
            SOFTCAP=SOFTCAP,
            MASKED=MASKED,
        )
        pages = ahead
    return maximum, total, output
