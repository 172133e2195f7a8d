"""Attention of rows that have one token each, between the two projections, written for LLVM.

Queries and keys are normed where the family does so, rotated in place, and keys and values go to their slots, as they
are or as e4m3 with a scale for each KV head, in which they are read as well. Then
query heads of the same keys read the pages of their row together, up to four at once: scores, their softmax, and
the weighted sum of the values, all in fp32. A head's result depends on its own row alone. Heads of all rows are shared
among the threads of torch's OpenMP runtime.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import TURNED_AT_ONCE
from kindling_engine.jit.writing import (
    E4M3_UNIT,
    address,
    counted,
    e4m3_load,
    e4m3_store,
    exponential,
    f32,
    f32p,
    fields,
    fill,
    floats,
    i8,
    i32,
    i64,
    intrinsic,
    multiply_add,
    number,
    part,
    smaller,
    spread,
    team_place,
    team_run,
    total,
    totals,
    vector_load,
    vector_store,
    void,
)

ENTRY, PLACE, SHARE = "decode", "decode_place", "decode_share"
PAGE = 16
_TOGETHER = 4
_FEW, _FULL = 2, 3
_KEYS_AT_ONCE = {1: 4, 2: 2, 3: 4, 4: 2}
_VECTORS_AT_ONCE = {1: 8, 2: 4, 3: 4, 4: 3}
"""Keys whose scores, and vectors of a head that are summed up side by side, by how many queries: with what they are
made of they have to fit into 16 registers.
"""
_SUMS_AT_ONCE = 4
_i64p = i64.as_pointer()

# Keys and values of the layer, numbers from one KV head to the next, heads, KV heads, norms of queries and keys (or
# none), ε, scale; scales of keys and values by KV head (or none).
LAYER = ir.LiteralStructType([f32p, f32p, i64, i64, i64, f32p, f32p, f32, f32, f32p, f32p])
# Cosines and signed sines of the rows (or none), their size, slots, block tables, their width, lengths, rows, scratch,
# floats of it for each thread.
STEP = ir.LiteralStructType([f32p, f32p, i64, _i64p, _i64p, i64, _i64p, i64, f32p, i64])
CALL = ir.LiteralStructType([LAYER.as_pointer(), STEP.as_pointer(), f32p, f32p])


def decode_module(width: int, head_dim: int, narrow: int) -> Any:
    """For vectors of ``width`` floats, by which ``head_dim`` divides; half of what is rotated does by 8. Keys and
    values are e4m3 where ``narrow`` is not 0.

    ENTRY takes a LAYER, a STEP, ``qkv [rows, heads + 2 · kv_heads, head_dim]``, which it changes, an output
    ``[rows, heads · head_dim]`` and a number of threads as 32 bits. It is PLACE, which takes the first three and is for
    one thread, then SHARE, which takes a CALL, and does what the thread that calls it has to do of its team's work.
    """
    module = ir.Module("decode")
    kept = i8.as_pointer() if narrow else f32p
    place = _place(module, (width, head_dim, kept), _norm(module, width, head_dim), _rotate(module))
    heads = {count: _heads(module, (width, head_dim, kept), count) for count in _KEYS_AT_ONCE}
    share = _share(module, head_dim, kept, heads)
    _entry(module, place, share)
    return module


def _norm(module: Any, width: int, head_dim: int) -> Any:
    """``(x, w, ε)``: one head over its root mean square, in place."""
    function = ir.Function(module, ir.FunctionType(void, [f32p, f32p, f32]), "norm")
    function.linkage = "internal"
    x, weight, epsilon = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    places = [number(at) for at in range(0, head_dim, width)]
    values = [vector_load(build, build.gep(x, [at]), width) for at in places]
    squares = floats(0.0, width)
    for value in values:
        squares = multiply_add(build, value, value, squares)
    mean = build.fmul(total(build, squares), ir.Constant(f32, 1 / head_dim))
    root = build.call(intrinsic(module, "llvm.sqrt.f32", f32, [f32]), [build.fadd(mean, epsilon)])
    factor = spread(build, build.fdiv(ir.Constant(f32, 1.0), root), width)
    for at, value in zip(places, values, strict=True):
        scaled = build.fmul(build.fmul(value, factor), vector_load(build, build.gep(weight, [at]), width))
        vector_store(build, scaled, build.gep(x, [at]))
    build.ret_void()
    return function


def _rotate(module: Any) -> Any:
    """``(x, cosines, signed sines, size)``: ``x·cos + (−x₂, x₁)·sin`` for one head, in place."""
    function = ir.Function(module, ir.FunctionType(void, [f32p, f32p, f32p, i64]), "rotate")
    function.linkage = "internal"
    x, cosines, sines, size = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    half, width = build.sdiv(size, number(2)), TURNED_AT_ONCE
    with counted(build, number(0), half, number(width)) as at:
        pair = (at, build.add(at, half))
        left, right = (vector_load(build, build.gep(x, [one]), width) for one in pair)
        for one, own, other in ((pair[0], left, right), (pair[1], right, left)):
            cosine = vector_load(build, build.gep(cosines, [one]), width)
            sine = vector_load(build, build.gep(sines, [one]), width)
            turned = multiply_add(build, other, sine, build.fmul(own, cosine))
            vector_store(build, turned, build.gep(x, [one]))
    build.ret_void()
    return function


def _place(module: Any, sizes: tuple[int, int, Any], norm: Any, rotate: Any) -> Any:
    """``(layer, step, qkv)``: positions queries and keys, and stores keys and values."""
    kind = ir.FunctionType(void, [LAYER.as_pointer(), STEP.as_pointer(), f32p])
    function = ir.Function(module, kind, PLACE)
    layer, step, qkv = function.args
    width, head_dim, kept = sizes
    build = ir.IRBuilder(function.append_basic_block("start"))
    keys, values, stride, heads, kv_heads, q_norm, k_norm, epsilon, _, *scales = fields(build, layer)
    cosines, sines, turned, slots, _, _, _, rows, _, _ = fields(build, step)
    both = build.add(heads, kv_heads)
    row_size = build.mul(build.add(both, kv_heads), number(head_dim))
    with counted(build, number(0), rows, number(1)) as row:
        line = build.gep(qkv, [build.mul(row, row_size)])
        angles = build.mul(row, turned)
        for start, end, weight in ((number(0), heads, q_norm), (heads, both, k_norm)):
            with counted(build, start, end, number(1)) as head:
                x = build.gep(line, [build.mul(head, number(head_dim))])
                with _given(build, weight):
                    build.call(norm, [x, weight, epsilon])
                with _given(build, cosines):
                    build.call(rotate, [x, build.gep(cosines, [angles]), build.gep(sines, [angles]), turned])
        slot = build.mul(build.load(build.gep(slots, [row])), number(head_dim))
        for first, target, scale in ((heads, keys, scales[0]), (both, values, scales[1])):
            with counted(build, number(0), kv_heads, number(1)) as head:
                source = build.gep(line, [build.mul(build.add(first, head), number(head_dim))])
                home = build.gep(build.bitcast(target, kept), [build.add(build.mul(head, stride), slot)])
                unit = None if kept == f32p else spread(build, build.load(build.gep(scale, [head])), width)
                for at in range(0, head_dim, width):
                    value = vector_load(build, build.gep(source, [number(at)]), width)
                    if unit is None:
                        vector_store(build, value, build.gep(home, [number(at)]))
                    else:
                        e4m3_store(build, build.fdiv(value, unit), build.gep(home, [number(at)]))
    build.ret_void()
    return function


def _heads(module: Any, sizes: tuple[int, int, Any], count: int) -> Any:
    """``(query, keys, values, blocks, length, scale, unit, scratch, output)``: ``count`` query heads, one behind the
    other, over their row's pages, whose values are to be multiplied by ``unit`` where they are e4m3.
    """
    width, head_dim, kept = sizes
    kind = ir.FunctionType(void, [f32p, kept, kept, _i64p, i64, f32, f32, f32p, f32p])
    function = ir.Function(module, kind, f"heads_{count}")
    function.linkage = "internal"
    query, keys, values, blocks, length, scale, unit, scratch, output = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    held = build.alloca(ir.VectorType(f32, width))
    sums = [[build.alloca(held.type.pointee) for _ in range(head_dim // width)] for _ in range(count)]
    pages = build.sdiv(build.add(length, number(PAGE - 1)), number(PAGE))
    padded = build.mul(pages, number(PAGE))
    lines = [build.gep(scratch, [build.mul(padded, number(one))]) for one in range(count)]
    queries, outputs = (
        [build.gep(base, [number(one * head_dim)]) for one in range(count)] for base in (query, output)
    )
    _score(build, queries, lines, (keys, blocks, pages, scale), (width, head_dim))
    wholes = [_soften(build, line, length, padded, held) for line in lines]
    if kept != f32p:
        wholes = [build.fdiv(whole, spread(build, unit, width)) for whole in wholes]
    _weigh(build, sums, (lines, wholes, outputs), (values, blocks, pages, length), head_dim)
    build.ret_void()
    return function


def _score(
    build: Any, queries: list[Any], lines: list[Any], given: tuple[Any, ...], sizes: tuple[int, int]
) -> None:
    """The scaled products of queries and keys of all pages, to a line for each query: keys are read once for all."""
    keys, blocks, pages, scale = given
    width, head_dim = sizes
    at_once = _KEYS_AT_ONCE[len(queries)]
    factors = []
    if len(queries) <= _FEW:
        places = range(0, head_dim, width)
        factors = [
            [vector_load(build, build.gep(query, [number(at)]), width) for at in places] for query in queries
        ]
    with counted(build, number(0), pages, number(1)) as page:
        block = build.mul(build.load(build.gep(blocks, [page])), number(PAGE * head_dim))
        start = build.mul(page, number(PAGE))
        with counted(build, number(0), number(PAGE), number(at_once)) as some:
            first = build.gep(keys, [build.add(block, build.mul(some, number(head_dim)))])
            if len(queries) == _FULL:
                products = _products_of_many(build, queries, first, (at_once, width, head_dim))
            else:
                products = _products(build, queries, factors, first, (at_once, width, head_dim))
            _store_scores(build, lines, products, build.add(start, some), scale)


def _products(
    build: Any, queries: list[Any], factors: list[list[Any]], keys: Any, sizes: tuple[int, int, int]
) -> list[list[Any]]:
    """Of each query with some keys, not summed up yet.

    Few queries leave registers for what they are multiplied by, their ``factors``, and read key after key, as memory
    likes it.
    """
    at_once, width, head_dim = sizes
    products = [[floats(0.0, width)] * at_once for _ in queries]
    spans = [(at_once, at) for at in range(0, head_dim, width)]
    if factors:
        spans = [(1, at) for at in range(0, at_once * head_dim, width)]
    for number_of_keys, offset in spans:
        at, shift = offset % head_dim, offset // head_dim
        column = [
            _kept(build, build.gep(keys, [number(key * head_dim + offset)]), width)
            for key in range(number_of_keys)
        ]
        for index, (query, own) in enumerate(zip(queries, products, strict=True)):
            factor = (
                factors[index][at // width]
                if factors
                else vector_load(build, build.gep(query, [number(at)]), width)
            )
            for key, values in enumerate(column):
                own[shift + key] = multiply_add(build, factor, values, own[shift + key])
    return products


def _products_of_many(
    build: Any, queries: list[Any], keys: Any, sizes: tuple[int, int, int]
) -> list[list[Any]]:
    """As ``_products``, by a loop: sums and what they are made of fill all registers, and the compiler moves some to
    memory where everything is written out.
    """
    at_once, width, head_dim = sizes
    with build.goto_entry_block():
        sums = [[build.alloca(ir.VectorType(f32, width)) for _ in range(at_once)] for _ in queries]
    for one in (one for own in sums for one in own):
        build.store(floats(0.0, width), one)
    with counted(build, number(0), number(head_dim), number(width)) as at:
        factors = [vector_load(build, build.gep(query, [at]), width) for query in queries]
        for key in range(at_once):
            value = _kept(build, build.gep(keys, [build.add(at, number(key * head_dim))]), width)
            for factor, own in zip(factors, sums, strict=True):
                build.store(multiply_add(build, factor, value, build.load(own[key])), own[key])
    return [[build.load(one) for one in own] for own in sums]


def _store_scores(build: Any, lines: list[Any], products: list[list[Any]], first: Any, scale: Any) -> None:
    """Each query's products with some keys, summed up, to its line from ``first`` on."""
    scales = spread(build, scale, _SUMS_AT_ONCE)
    each = len(products[0])
    flat = [one for own in products for one in own]
    for at in range(0, len(flat), _SUMS_AT_ONCE):
        scores = build.fmul(totals(build, flat[at : at + _SUMS_AT_ONCE]), scales)
        for shift in range(0, _SUMS_AT_ONCE, each):
            place = build.gep(lines[(at + shift) // each], [first])
            vector_store(build, part(build, scores, shift, each), place)


def _soften(build: Any, line: Any, length: Any, padded: Any, held: Any) -> Any:
    """Scores to their exponentials over the greatest, in place, 0 behind ``length``; gives a vector of their sum."""
    width = held.type.pointee.count
    with counted(build, length, padded, number(1)) as behind:
        build.store(ir.Constant(f32, float("-inf")), build.gep(line, [behind]))
    build.store(floats(float("-inf"), width), held)
    with counted(build, number(0), padded, number(width)) as at:
        scores, most = vector_load(build, build.gep(line, [at]), width), build.load(held)
        build.store(build.select(build.fcmp_ordered(">", scores, most), scores, most), held)
    greatest = spread(build, total(build, build.load(held), greatest=True), width)
    build.store(floats(0.0, width), held)
    with counted(build, number(0), padded, number(width)) as at:
        place = build.gep(line, [at])
        weights = exponential(build, build.fsub(vector_load(build, place, width), greatest))
        vector_store(build, weights, place)
        build.store(build.fadd(build.load(held), weights), held)
    return spread(build, total(build, build.load(held)), width)


def _weigh(
    build: Any, sums: list[list[Any]], heads: tuple[list[Any], ...], given: tuple[Any, ...], head_dim: int
) -> None:
    """The values of all keys by each head's weights, over the weights' sum: page by page, of which as many vectors of
    each head at once as fit into registers, so that values are read once for all heads.
    """
    lines, wholes, outputs = heads
    values, blocks, pages, length = given
    width = wholes[0].type.count
    at_once = _VECTORS_AT_ONCE[len(lines)]
    places = [number(at) for at in range(0, head_dim, width)]
    for one in (one for row in sums for one in row):
        build.store(floats(0.0, width), one)
    with counted(build, number(0), pages, number(1)) as page:
        block = build.mul(build.load(build.gep(blocks, [page])), number(PAGE * head_dim))
        start = build.mul(page, number(PAGE))
        count = smaller(build, build.sub(length, start), number(PAGE))
        for first in range(0, len(places), at_once):
            part = range(first, min(first + at_once, len(places)))
            with counted(build, number(0), count, number(1)) as key:
                behind = build.add(start, key)
                weights = [spread(build, build.load(build.gep(line, [behind])), width) for line in lines]
                value = build.gep(values, [build.add(block, build.mul(key, number(head_dim)))])
                for at in part:
                    own = _kept(build, build.gep(value, [places[at]]), width)
                    for weight, row in zip(weights, sums, strict=True):
                        build.store(multiply_add(build, weight, own, build.load(row[at])), row[at])
    for output, whole, row in zip(outputs, wholes, sums, strict=True):
        for at, one in zip(places, row, strict=True):
            vector_store(build, build.fdiv(build.load(one), whole), build.gep(output, [at]))


def _kept(build: Any, place: Any, width: int) -> Any:
    """Keys or values from pages."""
    return (vector_load if place.type == f32p else e4m3_load)(build, place, width)


def _share(module: Any, head_dim: int, kept: Any, heads_of: dict[int, Any]) -> Any:
    """One thread's part of all rows' heads."""
    function = ir.Function(module, ir.FunctionType(void, [address]), SHARE)
    build = ir.IRBuilder(function.append_basic_block("start"))
    layer, step, qkv, output = fields(build, build.bitcast(function.args[0], CALL.as_pointer()))
    keys, values, stride, heads, kv_heads, _, _, _, scale, *scales = fields(build, layer)
    keys, values = (build.bitcast(one, kept) for one in (keys, values))
    _, _, _, _, blocks, blocks_width, lengths, rows, scratch, scratch_size = fields(build, step)
    thread, threads = team_place(build)
    # Heads of the same keys, in parts of about the same size, whatever the step: so a head's bits never change.
    group = build.sdiv(heads, kv_heads)
    parts = build.sdiv(build.add(group, number(_TOGETHER - 1)), number(_TOGETHER))
    items = build.mul(rows, build.mul(kv_heads, parts))
    first = build.sdiv(build.mul(items, thread), threads)
    end = build.sdiv(build.mul(items, build.add(thread, number(1))), threads)
    row_heads = build.add(heads, build.mul(kv_heads, number(2)))
    with counted(build, first, end, number(1)) as item:
        # Head by head: rows that share a prefix find its keys in the cache.
        unit, row = build.sdiv(item, rows), build.srem(item, rows)
        kv_head, part = build.sdiv(unit, parts), build.srem(unit, parts)
        above = build.sdiv(build.mul(group, part), parts)
        below = build.sdiv(build.mul(group, build.add(part, number(1))), parts)
        at = build.add(build.mul(kv_head, group), above)
        offset = build.mul(kv_head, stride)
        query = build.mul(build.add(build.mul(row, row_heads), at), number(head_dim))
        factor, unit = scale, scale
        if kept != f32p:
            units = [build.load(build.gep(one, [kv_head])) for one in scales]
            key_unit, unit = (build.fmul(one, ir.Constant(f32, E4M3_UNIT)) for one in units)
            factor = build.fmul(scale, key_unit)
        given = [
            build.gep(qkv, [query]),
            build.gep(keys, [offset]),
            build.gep(values, [offset]),
            build.gep(blocks, [build.mul(row, blocks_width)]),
            build.load(build.gep(lengths, [row])),
            factor,
            unit,
            build.gep(scratch, [build.mul(thread, scratch_size)]),
            build.gep(output, [build.mul(build.add(build.mul(row, heads), at), number(head_dim))]),
        ]
        done = function.append_basic_block("done")
        choice = build.switch(build.sub(below, above), done)
        for count, code in heads_of.items():
            case = function.append_basic_block(f"heads_{count}")
            choice.add_case(number(count), case)
            build.position_at_end(case)
            build.call(code, given)
            build.branch(done)
        build.position_at_end(done)
    build.ret_void()
    return function


def _entry(module: Any, place: Any, share: Any) -> None:
    function = ir.Function(module, ir.FunctionType(void, [*CALL.elements, i32]), ENTRY)
    build = ir.IRBuilder(function.append_basic_block("start"))
    call = build.alloca(CALL)
    *values, threads = function.args
    fill(build, call, values)
    build.call(place, values[:3])
    team_run(build, share, call, threads)
    build.ret_void()


def _given(build: Any, pointer: Any) -> Any:
    """A block that runs where a pointer is not null."""
    return build.if_then(build.icmp_unsigned("!=", build.ptrtoint(pointer, i64), number(0)))
