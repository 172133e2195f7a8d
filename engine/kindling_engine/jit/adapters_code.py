"""What adapters add to a product's rows of one token each, ``y += (x·A)·B``, written for LLVM.

Each row reads the matrices of its own adapter once, where they lie in the pool, and nothing of others'; a row without
an adapter is passed over. A has ranks side by side, in multiples of 8, so a vector holds 8 ranks of one input; B has a
target's outputs side by side, so a vector holds 8 outputs of one rank. All sums are fp32 and depend on their row alone.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.writing import (
    counted,
    f32,
    f32p,
    fields,
    floats,
    i32,
    i64,
    multiply_add,
    number,
    spread,
    vector_load,
    vector_store,
    void,
)

SHARE = "adapters"
LANES = 8
MOST_RANK = 1024
"""Of all targets of a site."""
TARGETS = 3
FIELDS = TARGETS + 1
_AT_ONCE = 4
"""Inputs whose products are summed side by side, and vectors of outputs: a sum's next step waits for its last."""
_i32p, _i64p = i32.as_pointer(), i64.as_pointer()

# The site's number, its inputs, then where each target's columns begin, and how many there are; 0 for no target.
SITE = ir.LiteralStructType([i64, i64, *(i64,) * TARGETS, *(i64,) * TARGETS])
# The pool, and of each row where its adapter's tables are, offsets and first ranks; nowhere for rows of the base.
ADAPTERS = ir.LiteralStructType([f32p, _i64p.as_pointer(), _i32p.as_pointer()])


def adapters_module() -> Any:
    """SHARE takes a SITE, ADAPTERS, x and y, the size of y's rows, and from which row to which one."""
    module = ir.Module("adapters")
    kind = ir.FunctionType(void, [SITE.as_pointer(), ADAPTERS.as_pointer(), f32p, f32p, i64, i64, i64])
    function = ir.Function(module, kind, SHARE)
    site, adapters, x, y, size, first, end = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    shrunk = build.alloca(f32, number(MOST_RANK))
    shrink, expand = _shrink(module), _expand(module)
    index, inputs, *places = fields(build, site)
    pool, offsets_of, firsts_of = fields(build, adapters)
    table = build.mul(index, number(FIELDS))
    with counted(build, first, end, number(1)) as row:
        offsets = build.load(build.gep(offsets_of, [row]))
        with build.if_then(build.icmp_unsigned("!=", build.ptrtoint(offsets, i64), number(0))):
            offsets = build.gep(offsets, [table])
            firsts = build.gep(build.load(build.gep(firsts_of, [row])), [table])
            marks = [build.sext(build.load(build.gep(firsts, [number(at)])), i64) for at in range(FIELDS)]
            begins = [build.load(build.gep(offsets, [number(at)])) for at in range(FIELDS)]
            rank = marks[-1]
            with build.if_then(build.icmp_signed(">", rank, number(0))):
                line = build.gep(x, [build.mul(row, inputs)])
                build.call(shrink, [line, build.gep(pool, [begins[0]]), inputs, rank, shrunk])
                target = build.gep(y, [build.mul(row, size)])
                for at in range(TARGETS):
                    start, width = places[at], places[TARGETS + at]
                    count = build.sub(marks[at + 1], marks[at])
                    with build.if_then(build.icmp_signed(">", count, number(0))):
                        ranks = build.gep(shrunk, [marks[at]])
                        matrix = build.gep(pool, [begins[at + 1]])
                        build.call(expand, [ranks, matrix, count, width, build.gep(target, [start])])
    build.ret_void()
    return module


def _shrink(module: Any) -> Any:
    """``(x, A, inputs, rank, s)``: ``s = x·A`` for A ``[inputs, rank]``, two vectors of ranks at a time."""
    function = ir.Function(module, ir.FunctionType(void, [f32p, f32p, i64, i64, f32p]), "shrink")
    function.linkage = "internal"
    x, matrix, inputs, rank, shrunk = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    vector = ir.VectorType(f32, LANES)
    sums = [build.alloca(vector) for _ in range(2 * _AT_ONCE)]
    whole = build.mul(build.sdiv(inputs, number(_AT_ONCE)), number(_AT_ONCE))
    pairs = build.mul(build.sdiv(rank, number(2 * LANES)), number(2 * LANES))

    def some(lanes: Any, vectors: int) -> None:
        used = sums[: vectors * _AT_ONCE]
        for one in used:
            build.store(floats(0.0, LANES), one)

        def add(place: Any, at: int) -> None:
            factor = spread(build, build.load(build.gep(x, [place])), LANES)
            line = build.gep(matrix, [build.add(build.mul(place, rank), lanes)])
            for part in range(vectors):
                own = vector_load(build, build.gep(line, [number(part * LANES)]), LANES)
                total = used[at * vectors + part]
                build.store(multiply_add(build, factor, own, build.load(total)), total)

        with counted(build, number(0), whole, number(_AT_ONCE)) as place:
            for at in range(_AT_ONCE):
                add(build.add(place, number(at)), at)
        with counted(build, whole, inputs, number(1)) as place:
            add(place, 0)
        for part in range(vectors):
            left, right = (
                build.fadd(build.load(used[at * vectors + part]), build.load(used[(at + 1) * vectors + part]))
                for at in (0, 2)
            )
            target = build.gep(shrunk, [build.add(lanes, number(part * LANES))])
            vector_store(build, build.fadd(left, right), target)

    with counted(build, number(0), pairs, number(2 * LANES)) as lanes:
        some(lanes, 2)
    with counted(build, pairs, rank, number(LANES)) as lanes:
        some(lanes, 1)
    build.ret_void()
    return function


def _expand(module: Any) -> Any:
    """``(s, B, rank, outputs, y)``: ``y += s·B`` for B ``[rank, outputs]``, some vectors of outputs at a time."""
    function = ir.Function(module, ir.FunctionType(void, [f32p, f32p, i64, i64, f32p]), "expand")
    function.linkage = "internal"
    shrunk, matrix, rank, outputs, y = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    vector = ir.VectorType(f32, LANES)
    sums = [build.alloca(vector) for _ in range(_AT_ONCE)]
    step = LANES * _AT_ONCE
    whole = build.mul(build.sdiv(outputs, number(step)), number(step))

    def some(column: Any, vectors: int) -> None:
        places = [build.gep(y, [build.add(column, number(part * LANES))]) for part in range(vectors)]
        for place, total in zip(places, sums, strict=False):
            build.store(vector_load(build, place, LANES), total)
        with counted(build, number(0), rank, number(1)) as at:
            factor = spread(build, build.load(build.gep(shrunk, [at])), LANES)
            line = build.gep(matrix, [build.add(build.mul(at, outputs), column)])
            for part, total in enumerate(sums[:vectors]):
                own = vector_load(build, build.gep(line, [number(part * LANES)]), LANES)
                build.store(multiply_add(build, factor, own, build.load(total)), total)
        for place, total in zip(places, sums, strict=False):
            vector_store(build, build.load(total), place)

    with counted(build, number(0), whole, number(step)) as column:
        some(column, _AT_ONCE)
    with counted(build, whole, outputs, number(LANES)) as column:
        some(column, 1)
    build.ret_void()
    return function
