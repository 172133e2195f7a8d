"""The first of the sampler's two kernels: everything that looks at each logit once.

A program takes a slice of one row, so that a small batch fills the GPU as well. It normalises the raw logits, applies
penalties, biases, held-back stop tokens, masks and temperature, and leaves the slice's result: for rows without a
filter the best token, noise included; for filtered rows the changed logits and the maximum of every chunk of them.
"""

import triton
import triton.language as tl

from kindling_engine.kernels.noise import gumbel, row_keys

CHUNK = tl.constexpr(32)
"""Tokens that share one maximum."""

GREEDY_BELOW = tl.constexpr(1e-5)
LOG2_E = tl.constexpr(1.4426950408889634)
NOWHERE = tl.constexpr(2147483647)

_HELD_BACK = tl.constexpr(-1e30)


@triton.jit
def survey_kernel(
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
    in_prompt,
    bias_tokens,
    bias_values,
    held_tokens,
    held_until,
    masks,
    masked,
    changed,
    stats,
    best_ids,
    logits_stride,
    changed_stride,
    chunks_at,
    VOCAB: tl.constexpr,
    SLICES: tl.constexpr,
    CHANGES: tl.constexpr,
    MASKS: tl.constexpr,
    BIASES: tl.constexpr,
    HELD: tl.constexpr,
    BLOCK_BIASES: tl.constexpr,
    BLOCK_HELD: tl.constexpr,
    SLICE: tl.constexpr,
):
    """``stats [m, 4, SLICES]``: maximum and Σ e^(x − maximum) of raw logits, then of changed ones or the best score.

    ``changed [m, changed_stride]`` fp32 holds filtered rows after all changes, and from ``chunks_at`` on the chunks'
    maxima.
    """
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    columns = part * SLICE + tl.arange(0, SLICE)
    inside = columns < VOCAB
    value = tl.load(logits + row * logits_stride + columns, mask=inside, other=float("-inf")).to(tl.float32)
    place = stats + row * 4 * SLICES + part
    peak, total = _mass(value)
    tl.store(place, peak)
    tl.store(place + SLICES, total)

    position = tl.load(made + row)
    target = changed + row * changed_stride
    if CHANGES:
        value = _penalised(
            value,
            row,
            columns,
            inside,
            table_rows,
            repetitions,
            frequencies,
            presences,
            counts,
            in_prompt,
            VOCAB,
        )
        token = _listed(bias_tokens, row, part * SLICE, BIASES, BLOCK_BIASES, SLICE)
        if tl.max(token) >= 0:
            # A register tile cannot be indexed; the few slices with a pair go through memory.
            pair = row * BIASES + tl.arange(0, BLOCK_BIASES)
            added = tl.load(bias_values + pair, mask=token >= 0, other=0.0)
            tl.store(target + columns, value, mask=inside)
            tl.debug_barrier()
            added += tl.load(target + token, mask=token >= 0, other=0.0)
            tl.debug_barrier()
            tl.store(target + token, added, mask=token >= 0)
            tl.debug_barrier()
            value = tl.load(target + columns, mask=inside, other=float("-inf"))
            tl.debug_barrier()
        held = _listed(held_tokens, row, part * SLICE, HELD, BLOCK_HELD, SLICE)
        if (position < tl.load(held_until + row)) & (tl.max(held) >= 0):
            tl.store(target + columns, value, mask=inside)
            tl.debug_barrier()
            tl.store(target + held, tl.full([BLOCK_HELD], _HELD_BACK, tl.float32), mask=held >= 0)
            tl.debug_barrier()
            value = tl.load(target + columns, mask=inside, other=float("-inf"))
            tl.debug_barrier()
        if MASKS:  # noqa: SIM102, known to the compiler; the other is not
            if tl.load(masked + row) != 0:
                words: tl.constexpr = (VOCAB + 31) // 32
                word = tl.load(masks + row * words + columns // 32, mask=inside, other=0)
                value = tl.where(((word >> (columns % 32)) & 1) != 0, value, float("-inf"))

    temperature = tl.load(temperatures + row)
    greedy = temperature < GREEDY_BELOW
    filtered = (tl.load(top_ks + row) > 0) | (tl.load(top_ps + row) < 1.0) | (tl.load(min_ps + row) > 0.0)
    if not greedy:
        value = _divided(value, temperature)
    if filtered & (not greedy):
        tl.store(target + columns, value, mask=inside)
        maxima = tl.max(tl.reshape(value, [SLICE // CHUNK, CHUNK]), axis=1)
        chunk = part * (SLICE // CHUNK) + tl.arange(0, SLICE // CHUNK)
        tl.store(target + chunks_at + chunk, maxima, mask=chunk * CHUNK < VOCAB)
        peak, total = _mass(value)
        tl.store(place + 2 * SLICES, peak)
        tl.store(place + 3 * SLICES, total)
    else:
        if not greedy:
            first, second = row_keys(tl.load(seeds + row), position)
            value += gumbel(first, second, columns)
        best = tl.max(value)
        at = tl.min(tl.where((value == best) & inside, columns, NOWHERE))
        tl.store(place + 2 * SLICES, best)
        tl.store(best_ids + row * SLICES + part, at)


@triton.jit
def _penalised(
    value,
    row,
    columns,
    inside,
    table_rows,
    repetitions,
    frequencies,
    presences,
    counts,
    in_prompt,
    VOCAB: tl.constexpr,
):
    """As ``sampling.penalties``; the tables are read for rows with a penalty alone."""
    repetition = tl.load(repetitions + row)
    frequency = tl.load(frequencies + row)
    presence = tl.load(presences + row)
    if (repetition != 1.0) | (frequency != 0.0) | (presence != 0.0):
        entry = tl.load(table_rows + row) * VOCAB + columns
        count = tl.load(counts + entry, mask=inside, other=0)
        seen = (tl.load(in_prompt + entry, mask=inside, other=0) != 0) | (count > 0)
        repeated = tl.where(value > 0, _divided(value, repetition), value * repetition)
        value = tl.where(seen, repeated, value)
        value = value - frequency * count.to(tl.float32) - tl.where(count > 0, presence, 0.0)
    return value


@triton.jit
def _listed(tokens, row, start, COUNT: tl.constexpr, BLOCK: tl.constexpr, SLICE: tl.constexpr):
    """Those of a row's listed tokens that are in the slice from ``start`` on, −1 for the others."""
    pair = tl.arange(0, BLOCK)
    token = tl.load(tokens + row * COUNT + pair, mask=pair < COUNT, other=-1)
    return tl.where((token >= start) & (token < start + SLICE), token, -1)


@triton.jit
def _mass(value):
    """Maximum, and Σ e^(x − maximum); NaN where a logit is NaN or +∞, 0 where all are −∞."""
    peak = tl.max(value)
    safe = tl.where(peak == float("-inf"), 0.0, peak)
    return peak, tl.sum(tl.exp2((value - safe) * LOG2_E))


@triton.jit
def _divided(value, divisor):
    """By a scalar, rounded as torch does it."""
    return tl.div_rn(value, tl.zeros_like(value) + divisor)
