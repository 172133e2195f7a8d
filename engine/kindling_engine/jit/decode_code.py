"""Attention of rows that have one token each, between the two projections, written for LLVM.

Queries and keys are normed where the family does so, rotated in place, and keys and values go to their slots. Then each
query head reads the pages of its row: scores, their softmax, and the weighted sum of the values, all in fp32. A head's
result depends on its own row alone. Heads of all rows are shared among the threads of torch's OpenMP runtime.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.writing import (
    address,
    counted,
    exponential,
    f32,
    f32p,
    fields,
    fill,
    floats,
    i32,
    i64,
    intrinsic,
    multiply_add,
    number,
    smaller,
    spread,
    team_place,
    team_run,
    total,
    vector_load,
    vector_store,
    void,
)

ENTRY, PLACE, SHARE = "decode", "decode_place", "decode_share"
PAGE = 16
_KEYS_AT_ONCE = 4
_SUMS = 8
"""Vectors of a head that are summed up side by side."""
_i64p = i64.as_pointer()

# Keys and values of the layer, floats from one KV head to the next, heads, KV heads, norms of queries and keys (or
# none), ε, scale.
LAYER = ir.LiteralStructType([f32p, f32p, i64, i64, i64, f32p, f32p, f32, f32])
# Cosines and signed sines of the rows (or none), their size, slots, block tables, their width, lengths, rows, scratch,
# floats of it for each thread.
STEP = ir.LiteralStructType([f32p, f32p, i64, _i64p, _i64p, i64, _i64p, i64, f32p, i64])
CALL = ir.LiteralStructType([LAYER.as_pointer(), STEP.as_pointer(), f32p, f32p])


def decode_module(width: int, head_dim: int) -> Any:
    """For vectors of ``width`` floats, by which ``head_dim`` and half of what is rotated divide.

    ENTRY takes a LAYER, a STEP, ``qkv [rows, heads + 2 · kv_heads, head_dim]``, which it changes, an output
    ``[rows, heads · head_dim]`` and a number of threads as 32 bits. It is PLACE, which takes the first three and is for
    one thread, then SHARE, which takes a CALL, and does what the thread that calls it has to do of its team's work.
    """
    module = ir.Module("decode")
    place = _place(module, width, head_dim, _norm(module, width, head_dim), _rotate(module, width))
    share = _share(module, head_dim, _head(module, width, head_dim))
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


def _rotate(module: Any, width: int) -> Any:
    """``(x, cosines, signed sines, size)``: ``x·cos + (−x₂, x₁)·sin`` for one head, in place."""
    function = ir.Function(module, ir.FunctionType(void, [f32p, f32p, f32p, i64]), "rotate")
    function.linkage = "internal"
    x, cosines, sines, size = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    half = build.sdiv(size, number(2))
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


def _place(module: Any, width: int, head_dim: int, norm: Any, rotate: Any) -> Any:
    """``(layer, step, qkv)``: positions queries and keys, and stores keys and values."""
    kind = ir.FunctionType(void, [LAYER.as_pointer(), STEP.as_pointer(), f32p])
    function = ir.Function(module, kind, PLACE)
    layer, step, qkv = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    keys, values, stride, heads, kv_heads, q_norm, k_norm, epsilon, _ = fields(build, layer)
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
        for first, target in ((heads, keys), (both, values)):
            with counted(build, number(0), kv_heads, number(1)) as head:
                source = build.gep(line, [build.mul(build.add(first, head), number(head_dim))])
                home = build.gep(target, [build.add(build.mul(head, stride), slot)])
                for at in range(0, head_dim, width):
                    value = vector_load(build, build.gep(source, [number(at)]), width)
                    vector_store(build, value, build.gep(home, [number(at)]))
    build.ret_void()
    return function


def _head(module: Any, width: int, head_dim: int) -> Any:
    """``(query, keys, values, blocks, length, scale, scratch, output)``: one query head over its row's pages."""
    kind = ir.FunctionType(void, [f32p, f32p, f32p, _i64p, i64, f32, f32p, f32p])
    function = ir.Function(module, kind, "head")
    function.linkage = "internal"
    query, keys, values, blocks, length, scale, scratch, output = function.args
    vector = ir.VectorType(f32, width)
    places = [number(at) for at in range(0, head_dim, width)]
    build = ir.IRBuilder(function.append_basic_block("start"))
    held = build.alloca(vector)
    sums = [build.alloca(vector) for _ in range(min(_SUMS, len(places)))]
    factors = [vector_load(build, build.gep(query, [at]), width) for at in places]
    pages = build.sdiv(build.add(length, number(PAGE - 1)), number(PAGE))
    padded = build.mul(pages, number(PAGE))

    with counted(build, number(0), pages, number(1)) as page:
        block = build.mul(build.load(build.gep(blocks, [page])), number(PAGE * head_dim))
        start = build.mul(page, number(PAGE))
        with counted(build, number(0), number(PAGE), number(_KEYS_AT_ONCE)) as some:
            for more in range(_KEYS_AT_ONCE):
                key = build.add(some, number(more))
                line = build.gep(keys, [build.add(block, build.mul(key, number(head_dim)))])
                products = floats(0.0, width)
                for at, factor in zip(places, factors, strict=True):
                    own = vector_load(build, build.gep(line, [at]), width)
                    products = multiply_add(build, factor, own, products)
                score = build.fmul(total(build, products), scale)
                build.store(score, build.gep(scratch, [build.add(start, key)]))
    with counted(build, length, padded, number(1)) as behind:
        build.store(ir.Constant(f32, float("-inf")), build.gep(scratch, [behind]))

    build.store(floats(float("-inf"), width), held)
    with counted(build, number(0), padded, number(width)) as at:
        scores, most = vector_load(build, build.gep(scratch, [at]), width), build.load(held)
        build.store(build.select(build.fcmp_ordered(">", scores, most), scores, most), held)
    greatest = spread(build, total(build, build.load(held), greatest=True), width)
    build.store(floats(0.0, width), held)
    with counted(build, number(0), padded, number(width)) as at:
        place = build.gep(scratch, [at])
        weights = exponential(build, build.fsub(vector_load(build, place, width), greatest))
        vector_store(build, weights, place)
        build.store(build.fadd(build.load(held), weights), held)
    whole = spread(build, total(build, build.load(held)), width)

    _weigh(build, places, sums, (values, blocks, pages, length, scratch, whole, output), head_dim)
    build.ret_void()
    return function


def _weigh(build: Any, places: list[Any], sums: list[Any], given: tuple[Any, ...], head_dim: int) -> None:
    """The values of all keys by their weights, over the weights' sum, as many vectors of a head at once as there are
    ``sums``.
    """
    values, blocks, pages, length, scratch, whole, output = given
    width = whole.type.count
    for first in range(0, len(places), len(sums)):
        part = places[first : first + len(sums)]
        for one in sums:
            build.store(floats(0.0, width), one)
        with counted(build, number(0), pages, number(1)) as page:
            block = build.mul(build.load(build.gep(blocks, [page])), number(PAGE * head_dim))
            start = build.mul(page, number(PAGE))
            count = smaller(build, build.sub(length, start), number(PAGE))
            with counted(build, number(0), count, number(1)) as key:
                weight = spread(build, build.load(build.gep(scratch, [build.add(start, key)])), width)
                line = build.gep(values, [build.add(block, build.mul(key, number(head_dim)))])
                for at, one in zip(part, sums, strict=False):
                    own = vector_load(build, build.gep(line, [at]), width)
                    build.store(multiply_add(build, weight, own, build.load(one)), one)
        for at, one in zip(part, sums, strict=False):
            vector_store(build, build.fdiv(build.load(one), whole), build.gep(output, [at]))


def _share(module: Any, head_dim: int, head: Any) -> Any:
    """One thread's part of all rows' heads."""
    function = ir.Function(module, ir.FunctionType(void, [address]), SHARE)
    build = ir.IRBuilder(function.append_basic_block("start"))
    layer, step, qkv, output = fields(build, build.bitcast(function.args[0], CALL.as_pointer()))
    keys, values, stride, heads, kv_heads, _, _, _, scale = fields(build, layer)
    _, _, _, _, blocks, blocks_width, lengths, rows, scratch, scratch_size = fields(build, step)
    thread, threads = team_place(build)
    items = build.mul(rows, heads)
    first = build.sdiv(build.mul(items, thread), threads)
    end = build.sdiv(build.mul(items, build.add(thread, number(1))), threads)
    group = build.sdiv(heads, kv_heads)
    row_heads = build.add(heads, build.mul(kv_heads, number(2)))
    with counted(build, first, end, number(1)) as item:
        # Head by head: rows that share a prefix find its keys in the cache.
        at, row = build.sdiv(item, rows), build.srem(item, rows)
        offset = build.mul(build.sdiv(at, group), stride)
        query = build.mul(build.add(build.mul(row, row_heads), at), number(head_dim))
        build.call(
            head,
            [
                build.gep(qkv, [query]),
                build.gep(keys, [offset]),
                build.gep(values, [offset]),
                build.gep(blocks, [build.mul(row, blocks_width)]),
                build.load(build.gep(lengths, [row])),
                scale,
                build.gep(scratch, [build.mul(thread, scratch_size)]),
                build.gep(output, [build.mul(build.add(build.mul(row, heads), at), number(head_dim))]),
            ],
        )
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
