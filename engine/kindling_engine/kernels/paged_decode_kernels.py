"""The kernels of decode over paged KV: one piece of a request's keys, and the merge of pieces."""

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
    total_begun,
    total_ended,
)

_LN_2 = tl.constexpr(LN_2)
_LOG2_E = tl.constexpr(LOG2_E)


@triton.jit
def _cut(seen, total, wanted, most, BLOCK_N: tl.constexpr):
    """Keys of a piece, and pieces, of a request that reads ``seen`` of ``total`` keys: equal pieces of whole tiles."""
    size = tl.maximum(tl.maximum(tl.cdiv(total, wanted), tl.cdiv(seen, most)), 2 * BLOCK_N)
    count = tl.maximum(tl.cdiv(seen, size), 1)
    size = tl.cdiv(tl.maximum(tl.cdiv(seen, count), 1), BLOCK_N) * BLOCK_N
    return size, tl.maximum(tl.cdiv(seen, size), 1)


# As in prefill: neither where a step's numbers begin nor how many there are may be compiled for.
@triton.jit(do_not_specialize=["block_tables", "rows", "lengths", "requests", "wanted", "most"])
def paged_decode_kernel(
    query,
    key_pages,
    value_pages,
    block_tables,
    rows,
    lengths,
    sinks,
    key_scale,
    value_scale,
    out,
    lse,
    piece_output,
    piece_log_sum,
    pieces,
    factor,
    requests,
    wanted,
    most,
    query_stride,
    head_stride,
    table_stride,
    out_stride,
    Q_LEN: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    REQUESTS: tl.constexpr,
    WINDOW: tl.constexpr,
    SOFTCAP: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """One piece of one request and KV head, for one tile of (token, head of the group) rows."""
    ROWS: tl.constexpr = Q_LEN * GROUP
    TILES: tl.constexpr = (ROWS + BLOCK_M - 1) // BLOCK_M
    kv_head = tl.program_id(1)
    item = tl.program_id(0) // TILES
    row = tl.program_id(0) % TILES * BLOCK_M + tl.arange(0, BLOCK_M)

    request = item
    begin = item
    total = 0
    if SPLITS:
        every = tl.arange(0, REQUESTS)
        length = tl.load(lengths + every, mask=every < requests, other=0)
        seen = length - first_page_key(length - Q_LEN, WINDOW)
        total = tl.sum(seen)
        _, number = _cut(seen, total, wanted, most, BLOCK_N)
        number = tl.where(every < requests, number, 0)
        before = tl.cumsum(number) <= item
        request = tl.sum(before.to(tl.int32))
        begin = tl.sum(tl.where(before, number, 0))
        if request >= requests:
            return
    length = tl.load(lengths + request)
    # Both at once: pages are found two loads after the request is, and nothing else of a piece can begin before.
    table = block_tables + tl.load(rows + request).to(tl.int64) * table_stride
    first = first_page_key(length - Q_LEN, WINDOW)
    stop = length
    count = 1
    if SPLITS:
        size, count = _cut(length - first, total, wanted, most, BLOCK_N)
        if item == begin and kv_head == 0:
            tl.store(pieces + request * 2, begin)
            tl.store(pieces + request * 2 + 1, count)
        first += (item - begin) * size
        stop = tl.minimum(first + size, length)

    token = request.to(tl.int64) * Q_LEN + row // GROUP
    head = kv_head * GROUP + row % GROUP
    columns = tl.arange(0, BLOCK_D)
    valid = row < ROWS
    inside = valid[:, None] & (columns < HEAD_DIM)[None, :]
    asked = tl.load(
        query + token[:, None] * query_stride + (head[:, None] * HEAD_DIM + columns[None, :]),
        mask=inside,
        other=0.0,
    )
    position = length - Q_LEN + row // GROUP
    if key_scale is not None:
        factor *= tl.load(key_scale + kv_head)

    maximum = tl.full((BLOCK_M,), LOWEST, dtype=tl.float32)
    weight = tl.zeros((BLOCK_M,), dtype=tl.float32)
    output = tl.zeros((BLOCK_M, BLOCK_D), dtype=tl.float32)
    if sinks is not None:
        # A key without a value, seen first. Of several pieces none has it: the merge does.
        alone = valid & (count == 1)
        maximum = tl.where(alone, tl.load(sinks + head, mask=alone, other=0.0) * _LOG2_E, maximum)
        weight = alone.to(tl.float32)
    total_weight = total_begun(weight, BLOCK_N)

    key_head = key_pages + kv_head.to(tl.int64) * head_stride
    value_head = value_pages + kv_head.to(tl.int64) * head_stride
    offsets = tl.arange(0, BLOCK_N)
    pages = page_ids(table, first, offsets, stop)
    for start in range(first, stop, BLOCK_N):
        keys = start + offsets
        # The next tile's pages: its loads must not wait for them.
        ahead = page_ids(table, start + BLOCK_N, offsets, stop)
        maximum, total_weight, output = fold_tile(
            asked,
            key_head,
            value_head,
            pages,
            keys,
            stop,
            position,
            factor,
            maximum,
            total_weight,
            output,
            HEAD_DIM=HEAD_DIM,
            WINDOW=WINDOW,
            SOFTCAP=SOFTCAP,
            MASKED=True,
        )
        pages = ahead

    total_weight = total_ended(total_weight)
    output = normalised(total_weight, output)
    if value_scale is not None:
        output *= tl.load(value_scale + kv_head)
    log_sum = log2_sum(maximum, total_weight)
    if count == 1:
        target = out + token[:, None] * out_stride + (head[:, None] * HEAD_DIM + columns[None, :])
        tl.store(target, output.to(out.dtype.element_ty), mask=inside)
        if lse is not None:
            tl.store(lse + token * (tl.num_programs(1) * GROUP) + head, log_sum * _LN_2, mask=valid)
    elif SPLITS:
        place = (item.to(tl.int64) * tl.num_programs(1) + kv_head) * ROWS + row
        tl.store(piece_output + place[:, None] * HEAD_DIM + columns[None, :], output, mask=inside)
        tl.store(piece_log_sum + place, log_sum, mask=valid)


@triton.jit
def merge_pieces_kernel(
    piece_output,
    piece_log_sum,
    pieces,
    sinks,
    out,
    lse,
    out_stride,
    Q_LEN: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PIECES: tl.constexpr,
):
    """One token and head: its pieces' outputs, each weighted by its share of the softmax's sum."""
    token = tl.program_id(0)
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    request = token // Q_LEN
    begin = tl.load(pieces + request * 2)
    count = tl.load(pieces + request * 2 + 1)
    if count == 1:
        return
    row = token % Q_LEN * GROUP + head % GROUP
    # As the pieces' kernel numbers them; ROWS of each KV head are Q_LEN · GROUP, so an item has Q_LEN · heads.
    base = begin.to(tl.int64) * (Q_LEN * heads) + head // GROUP * (Q_LEN * GROUP) + row
    columns = tl.arange(0, BLOCK_D)
    maximum = tl.full((1,), LOWEST, dtype=tl.float32)
    total = tl.zeros((1,), dtype=tl.float32)
    output = tl.zeros((1, BLOCK_D), dtype=tl.float32)
    if sinks is not None:
        maximum = tl.load(sinks + head + tl.arange(0, 1)) * _LOG2_E
        total += 1.0
    for start in range(0, count, PIECES):
        piece = start + tl.arange(0, PIECES)
        place = base + piece.to(tl.int64) * (Q_LEN * heads)
        log_sum = tl.load(piece_log_sum + place, mask=piece < count, other=float("-inf"))
        inside = (piece < count)[:, None] & (columns < HEAD_DIM)[None, :]
        part = tl.load(piece_output + place[:, None] * HEAD_DIM + columns[None, :], mask=inside, other=0.0)
        largest = tl.maximum(maximum, tl.max(log_sum, 0))
        weights = tl.exp2(log_sum - largest)
        decay = tl.exp2(maximum - largest)
        total = total * decay + tl.sum(weights, 0)
        output = output * decay[:, None] + tl.sum(part * weights[:, None], 0)[None, :]
        maximum = largest
    target = out + token.to(tl.int64) * out_stride + head * HEAD_DIM + columns[None, :]
    tl.store(target, normalised(total, output).to(out.dtype.element_ty), mask=(columns < HEAD_DIM)[None, :])
    if lse is not None:
        place = tl.arange(0, 1) + token * heads + head
        tl.store(lse + place, log2_sum(maximum, total) * _LN_2)
