"""The second of the sampler's two kernels: one program per row brings its slices together and names the token.

Rows without a filter are done then. A filtered row looks for the edge of what it keeps without sorting: numbers are
read as integers of the same order, and an interval of them is narrowed by the weight above several pivots at once. It
does so among a pool: the chunks whose maximum is among the best few hundred, which hold every token above that
maximum. Where the pool cannot settle the edge, the same search runs over the whole row.
"""

import triton
import triton.language as tl

from kindling_engine.kernels.noise import gumbel, row_keys
from kindling_engine.kernels.sampling_survey import CHUNK, GREEDY_BELOW, LOG2_E, NOWHERE

_BARE = tl.constexpr(-2139095041)  # −∞ as an ordered integer
_LEAST = tl.constexpr(1e-30)


@triton.jit
def choose_kernel(
    logits,
    seeds,
    made,
    temperatures,
    top_ks,
    top_ps,
    min_ps,
    table_rows,
    repetitions,
    frequencies,
    presences,
    counts,
    changed,
    stats,
    best_ids,
    pool_chunks,
    tokens,
    logprobs,
    edges,
    logits_stride,
    changed_stride,
    chunks_at,
    pool_at,
    VOCAB: tl.constexpr,
    SLICES: tl.constexpr,
    BLOCK_SLICES: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    CHANGES: tl.constexpr,
    POOL: tl.constexpr,
    PIVOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    place = stats + row * 4 * SLICES
    raw_peak, raw_total = _merged(place, SLICES, BLOCK_SLICES)
    temperature = tl.load(temperatures + row)
    top_k = tl.load(top_ks + row)
    top_p = tl.load(top_ps + row)
    min_p = tl.load(min_ps + row)
    first, second = row_keys(tl.load(seeds + row), tl.load(made + row))
    if (temperature >= GREEDY_BELOW) & ((top_k > 0) | (top_p < 1.0) | (min_p > 0.0)):
        peak, whole = _merged(place + 2 * SLICES, SLICES, BLOCK_SLICES)
        values = changed + row * changed_stride
        chunk_ids = pool_chunks + row * POOL
        floor, above, mass = _pool_fill(
            values, chunk_ids, chunks_at, pool_at, peak, VOCAB, BLOCK_CHUNKS, POOL, PIVOTS, BLOCK
        )
        limited = (top_k > 0) & (top_k < VOCAB)
        # Where even the best outside of the pool fails min-p, nothing outside is drawn.
        cut = tl.exp2((_value(floor) - peak) * LOG2_E) < min_p
        settled = (
            (floor <= _BARE + 1) | (limited & (top_k <= above)) | (cut & ((not limited) | (top_p >= 1.0)))
        )
        settled = settled | ((not limited) & (top_p < 1.0) & (mass >= top_p * whole))
        values += tl.where(settled, pool_at, 0)
        length = tl.where(settled, POOL * CHUNK, VOCAB)
        low = tl.where(settled, floor, _BARE)
        edge, room = _edge(values, length, low, peak, whole, limited, top_k, top_p, PIVOTS, BLOCK)
        edge_value = _value(edge)
        token = _drawn(values, chunk_ids, settled, length, edge, room, peak, min_p, first, second, BLOCK)
    else:
        edge_value = float("nan")
        room = float("nan")
        part = tl.arange(0, BLOCK_SLICES)
        best = tl.load(place + 2 * SLICES + part, mask=part < SLICES, other=float("-inf"))
        at = tl.load(best_ids + row * SLICES + part, mask=part < SLICES, other=NOWHERE)
        token = tl.min(tl.where(best == tl.max(best), at, NOWHERE))

    # The sum is NaN where a logit is NaN or +∞, and 0 where all are −∞: so is the log-probability not a number then.
    # The token is one that exists, whatever the logits.
    normaliser = raw_peak + tl.log(raw_total)
    token = tl.where((token < VOCAB) & (raw_total > 0.0), token, 0).to(tl.int64)
    raw = tl.load(logits + row * logits_stride + token).to(tl.float32)
    tl.store(edges + row * 2, edge_value)
    tl.store(edges + row * 2 + 1, room)
    tl.store(tokens + row, token)
    tl.store(logprobs + row, raw - normaliser)
    if CHANGES:
        penalised = tl.load(repetitions + row) != 1.0
        penalised = penalised | (tl.load(frequencies + row) != 0.0) | (tl.load(presences + row) != 0.0)
        if penalised:
            entry = counts + tl.load(table_rows + row) * VOCAB + token
            tl.store(entry, tl.load(entry) + 1)


@triton.jit
def _merged(place, SLICES: tl.constexpr, BLOCK_SLICES: tl.constexpr):
    """Maximum and Σ e^(x − maximum) of a row from those of its slices."""
    part = tl.arange(0, BLOCK_SLICES)
    peaks = tl.load(place + part, mask=part < SLICES, other=float("-inf"))
    totals = tl.load(place + SLICES + part, mask=part < SLICES, other=0.0)
    peak = tl.max(peaks)
    safe = tl.where(peak == float("-inf"), 0.0, peak)
    return peak, tl.sum(totals * tl.exp2((peaks - safe) * LOG2_E))


@triton.jit
def _pool_fill(
    values,
    chunk_ids,
    chunks_at,
    pool_at,
    peak,
    VOCAB: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
    POOL: tl.constexpr,
    PIVOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Copy all tokens above some floor behind the row, −∞ between them; give the floor, their number and their mass.

    At most POOL chunks reach above the floor, and no fewer than three quarters of that where the row has them.
    """
    chunks: tl.constexpr = (VOCAB + CHUNK - 1) // CHUNK
    floor = tl.full([], _BARE, tl.int64)
    if chunks > POOL:
        floor, _ = _bound(
            values + chunks_at,
            chunks,
            floor,
            _code(peak).to(tl.int64),
            POOL + 1.0,
            POOL * 0.75,
            peak,
            False,
            PIVOTS,
            BLOCK,
        )
    chunk = tl.arange(0, BLOCK_CHUNKS)
    best = tl.load(values + chunks_at + chunk, mask=chunk < chunks, other=float("-inf"))
    reaches = _code(best) > floor
    tl.store(chunk_ids + tl.cumsum(reaches.to(tl.int32)) - 1, chunk, mask=reaches)
    found = tl.sum(reaches.to(tl.int32))
    tl.debug_barrier()
    above = tl.zeros([BLOCK], tl.int32)
    mass = tl.zeros([BLOCK], tl.float32)
    for start in range(0, POOL * CHUNK, BLOCK):
        position = start + tl.arange(0, BLOCK)
        used = position // CHUNK < found
        token = tl.load(chunk_ids + position // CHUNK, mask=used, other=0) * CHUNK + position % CHUNK
        value = tl.load(values + token, mask=used & (token < VOCAB), other=float("-inf"))
        inside = _code(value) > floor
        value = tl.where(inside, value, float("-inf"))
        tl.store(values + pool_at + position, value, mask=position < POOL * CHUNK)
        above += inside.to(tl.int32)
        mass += tl.exp2((value - peak) * LOG2_E)
    tl.debug_barrier()
    return floor, tl.sum(above), tl.sum(mass)


@triton.jit
def _edge(values, length, low, peak, whole, limited, top_k, top_p, PIVOTS: tl.constexpr, BLOCK: tl.constexpr):
    """What top-k, then top-p on what it left, keep: numbers above the edge, and of those at it the first ``room``."""
    high = _code(peak).to(tl.int64)
    edge = low
    room = 0.0
    mass = whole
    if limited:
        edge, above = _bound(
            values, length, low, high, top_k + 1.0, top_k.to(tl.float32), peak, False, PIVOTS, BLOCK
        )
        room = top_k.to(tl.float32) - above
        same = tl.zeros([PIVOTS], tl.int32) + edge.to(tl.int32)
        mass = tl.max(_weights_above(values, length, same, peak, True, PIVOTS, BLOCK))
        mass += room * tl.exp2((_value(edge) - peak) * LOG2_E)
    if top_p < 1.0:
        # However little is asked for, the best token stays.
        target = tl.maximum(top_p * mass, _LEAST)
        nucleus, above = _bound(
            values, length, edge - 1, high, target, float("inf"), peak, True, PIVOTS, BLOCK
        )
        fitting = tl.ceil((target - above) / tl.exp2((_value(nucleus) - peak) * LOG2_E))
        room = tl.where(nucleus > edge, fitting, tl.minimum(room, fitting))
        edge = nucleus
    return edge, room


@triton.jit
def _drawn(values, chunk_ids, pooled, length, edge, room, peak, min_p, first, second, BLOCK: tl.constexpr):
    """The token of the highest noisy logit among those kept; of equals the first."""
    best = float("-inf")
    token = NOWHERE
    ties = 0
    for start in range(0, length, BLOCK):
        position = start + tl.arange(0, BLOCK)
        value = tl.load(values + position, mask=position < length, other=float("-inf"))
        code = _code(value)
        tie = code == edge
        rank = ties + tl.cumsum(tie.to(tl.int32)) - 1
        kept = (code > edge) | (tie & (rank.to(tl.float32) < room))
        kept = kept & (tl.exp2((value - peak) * LOG2_E) >= min_p)
        chunk = tl.load(chunk_ids + position // CHUNK, mask=pooled & kept, other=0)
        ids = tl.where(pooled, chunk * CHUNK + position % CHUNK, position)
        score = tl.where(kept, value + gumbel(first, second, ids), float("-inf"))
        top = tl.max(score)
        at = tl.min(tl.where(kept & (score == top), ids, NOWHERE))
        token = tl.where(top > best, at, token)
        best = tl.maximum(top, best)
        ties += tl.sum(tie.to(tl.int32))
    return token


@triton.jit
def _bound(
    values,
    length,
    low,
    high,
    target,
    enough,
    peak,
    MASSES: tl.constexpr,
    PIVOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The smallest code t in (low, high] with less than ``target`` above it, and what is above it.

    An earlier one will do once ``enough`` is above. ``high`` must have less than ``target`` above it. Weights are
    numbers of tokens, or masses relative to the peak's.
    """
    above = 0.0
    step = tl.arange(0, PIVOTS).to(tl.int64) + 1
    while (high - low > 1) & (above < enough):
        pivots = low + step * (high - low) // (PIVOTS + 1)
        weights = _weights_above(values, length, pivots.to(tl.int32), peak, MASSES, PIVOTS, BLOCK)
        over = weights >= target
        above = tl.maximum(above, tl.max(tl.where(over, 0.0, weights)))
        narrowed = tl.max(tl.where(over, pivots, low))
        high = tl.min(tl.where(over, high, pivots))
        low = narrowed
    return high, above


@triton.jit
def _weights_above(
    values, length, pivots, peak, MASSES: tl.constexpr, PIVOTS: tl.constexpr, BLOCK: tl.constexpr
):
    """fp32 ``[PIVOTS]``: one pass. Pivots lie along a thread's own registers, so that each logit is read once."""
    total = tl.zeros([BLOCK, PIVOTS], tl.float32)
    for start in range(0, length, BLOCK):
        position = start + tl.arange(0, BLOCK)
        value = tl.load(values + position, mask=position < length, other=float("-inf"))
        over = _code(value)[:, None] > pivots[None, :]
        if MASSES:
            total += tl.where(over, tl.exp2((value - peak) * LOG2_E)[:, None], 0.0)
        else:
            total += over.to(tl.float32)
    return tl.sum(total, axis=0)


@triton.jit
def _code(value):
    """fp32 as int32 of the same order."""
    bits = value.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _value(code):
    bits = code.to(tl.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
