"""``y = s ⊙ (x·Wᵀ) + b`` in fp32, with W as fp32, bf16, fp16 or int8, and s for int8 alone, written for LLVM.

W lies in panels ``[out / width, in, width]``, a panel one vector wide. A tile of a few rows by some panels is summed up
in registers while its panels stream by: each weight is read once for all rows of the tile, and each sum adds its
products in the order of ``in`` with one rounding each. So a row's result here has the same bits in any batch and on any
number of threads. Threads are those of the OpenMP runtime that torch uses, and share the panels. On processors that
multiply tiles, bf16 and many rows of fp16 and int8 go by ``tiles_code``.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import BF16, BF16_PAIRS, FP16, FP32, INT8
from kindling_engine.jit.tiles_code import tiles_share
from kindling_engine.jit.writing import (
    address,
    counted,
    f16,
    f32,
    f32p,
    fetch,
    fields,
    floats,
    half_load,
    i8,
    i16,
    i64,
    integer_load,
    multiply_add,
    narrow_load,
    number,
    smaller,
    spread,
    team_entry,
    team_part,
    vector_load,
    vector_store,
    void,
)

ENTRY, SHARE = "linear", "linear_share"
# Panels of a tile by its rows, by the floats in a vector. Sums that do not wait for each other keep the units busy, and
# with what they are made of they have to fit into 16 registers, or 32 of AVX-512's.
_PANELS = {
    8: {1: 8, 2: 4, 3: 2, 4: 2, 5: 2, 6: 2},
    16: {1: 8, 2: 8, 3: 6, 4: 6, 5: 4, 6: 4, 7: 2, 8: 2},
}
_MOST_ROWS = 6
"""Of a tile, where there are more rows than the tallest takes."""
_UNROLL = 2
"""Inputs that one turn of the innermost loop takes."""
_AHEAD = 4
"""Panels between the one that is multiplied and the one that is fetched into the cache meanwhile."""
_LEAST_ROWS_AHEAD, _LEAST_ROWS_AHEAD_OF_FP32 = 2, 3
"""Tiles with fewer rows read as fast as memory gives, whoever fetches."""

# What a weight is stored as, and what reads a vector of them.
_STORED = {
    FP32: (f32, vector_load),
    BF16: (i16, narrow_load),
    FP16: (f16, half_load),
    INT8: (i8, integer_load),
}

# W, s, b, inputs, outputs, rows of a block, panels of a group: what does not change from call to call.
_MATRIX = ir.LiteralStructType([address, f32p, f32p, i64, i64, i64, i64])
# A matrix, x, x's stride, y, rows.
PRODUCT = ir.LiteralStructType([_MATRIX.as_pointer(), f32p, i64, f32p, i64])


def linear_module(width: int, stored: int, rows_of_tiles: int = 0) -> Any:
    """For vectors of ``width`` floats, and W ``stored`` as what has this number.

    ENTRY takes what is in PRODUCT, and a number of threads as 32 bits; SHARE takes a PRODUCT, and does what the thread
    that calls it has to do of its team's work.
    """
    module = ir.Module("linear")
    if stored == BF16_PAIRS:
        share = tiles_share(module, SHARE, PRODUCT, stored)
    elif rows_of_tiles:
        few, many = _rows_share(module, "few", width, stored), tiles_share(module, "many", PRODUCT, stored)
        share = _either(module, few, many, rows_of_tiles)
    else:
        share = _rows_share(module, SHARE, width, stored)
    team_entry(module, ENTRY, PRODUCT, PRODUCT.elements, share)
    return module


def inputs_of(build: Any, matrix: Any) -> Any:
    """The length of a matrix's rows."""
    _, _, _, inputs, *_ = fields(build, matrix)
    return inputs


def _either(module: Any, few: Any, many: Any, rows_of_many: int) -> Any:
    """One of two functions, by the rows that there are."""
    function = ir.Function(module, ir.FunctionType(void, [address]), SHARE)
    build = ir.IRBuilder(function.append_basic_block("start"))
    (given,) = function.args
    *_, rows = fields(build, build.bitcast(given, PRODUCT.as_pointer()))
    with build.if_else(build.icmp_signed("<", rows, number(rows_of_many))) as branches:
        for code, branch in zip((few, many), branches, strict=True):
            with branch:
                build.call(code, [given])
    build.ret_void()
    return function


def _rows_share(module: Any, name: str, width: int, stored: int) -> Any:
    tiles = {
        rows: {panels: _tile(module, width, rows, panels, stored) for panels in _halves(most)}
        for rows, most in _PANELS[width].items()
    }
    sweeps = {rows: _sweep(module, width, rows, by_panels) for rows, by_panels in tiles.items()}
    return _share(module, name, width, sweeps)


def _tile(module: Any, width: int, rows: int, panels: int, stored: int) -> Any:
    """``(x, stride of x, W, s, b, y, stride of y, inputs)``: some rows by some panels."""
    vector = ir.VectorType(f32, width)
    weight, read = _STORED[stored]
    scaled = stored == INT8
    kind = ir.FunctionType(void, [f32p, i64, weight.as_pointer(), f32p, f32p, f32p, i64, i64])
    function = ir.Function(module, kind, f"tile_{rows}_{panels}")
    function.linkage = "internal"
    x, x_stride, weights, scales, bias, y, y_stride, inputs = function.args

    start, loop, end = (function.append_basic_block(name) for name in ("start", "loop", "end"))
    build = ir.IRBuilder(start)
    size = build.mul(inputs, number(width))
    lines = [build.gep(x, [build.mul(x_stride, number(row))]) for row in range(rows)]
    sources = [build.gep(weights, [build.mul(size, number(panel))]) for panel in range(panels)]
    shifts = [vector_load(build, build.gep(bias, [number(panel * width)]), width) for panel in range(panels)]
    first = [floats(0.0, width)] * panels if scaled else shifts
    build.branch(loop)

    build.position_at_end(loop)
    at = build.phi(i64)
    at.add_incoming(number(0), start)
    sums = [[build.phi(vector) for _ in range(panels)] for _ in range(rows)]
    grown = [list(row) for row in sums]
    if rows >= (_LEAST_ROWS_AHEAD_OF_FP32 if stored == FP32 else _LEAST_ROWS_AHEAD):
        ahead = build.add(build.mul(at, number(width)), build.mul(size, number(_AHEAD)))
        for source in sources:
            fetch(build, build.gep(source, [ahead]), 2)
    for step in range(_UNROLL):
        here = build.add(at, number(step))
        offset = build.mul(here, number(width))
        column = [read(build, build.gep(source, [offset]), width) for source in sources]
        for row in range(rows):
            factor = spread(build, build.load(build.gep(lines[row], [here])), width)
            for panel in range(panels):
                grown[row][panel] = multiply_add(build, factor, column[panel], grown[row][panel])
    following = build.add(at, number(_UNROLL))
    at.add_incoming(following, loop)
    for row in range(rows):
        for panel in range(panels):
            sums[row][panel].add_incoming(first[panel], start)
            sums[row][panel].add_incoming(grown[row][panel], loop)
    build.cbranch(build.icmp_signed("<", following, inputs), loop, end)

    build.position_at_end(end)
    for panel in range(panels):
        if scaled:
            scale = vector_load(build, build.gep(scales, [number(panel * width)]), width)
            for row in range(rows):
                grown[row][panel] = multiply_add(build, grown[row][panel], scale, shifts[panel])
        for row in range(rows):
            place = build.gep(y, [build.add(build.mul(y_stride, number(row)), number(panel * width))])
            vector_store(build, grown[row][panel], place)
    build.ret_void()
    return function


def _halves(most: int) -> list[int]:
    """Panels of tiles for what is left behind those of ``most``, the widest first."""
    return [most] if most == 1 else [most, *_halves((most + 1) // 2)]


def _sweep(module: Any, width: int, rows: int, tiles: dict[int, Any]) -> Any:
    """``(…, first panel, end of panels)``: some rows by a range of panels, as many at once as ``tiles`` take."""
    stored = tiles[1].args[2].type
    kind = ir.FunctionType(void, [f32p, i64, stored, f32p, f32p, f32p, i64, i64, i64, i64])
    function = ir.Function(module, kind, f"sweep_{rows}")
    function.linkage = "internal"
    x, x_stride, weights, scales, bias, y, y_stride, inputs, first, end = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    size, begin = build.mul(inputs, number(width)), first
    for panels, tile in tiles.items():
        count = build.sdiv(build.sub(end, begin), number(panels))
        until = build.add(begin, build.mul(count, number(panels)))
        with counted(build, begin, until, number(panels)) as panel:
            column = build.mul(panel, number(width))
            build.call(
                tile,
                [
                    x,
                    x_stride,
                    build.gep(weights, [build.mul(size, panel)]),
                    build.gep(scales, [column]),
                    build.gep(bias, [column]),
                    build.gep(y, [column]),
                    y_stride,
                    inputs,
                ],
            )
        begin = until
    build.ret_void()
    return function


def _share(module: Any, name: str, width: int, sweeps: dict[int, Any]) -> Any:
    """One thread's panels of all rows: blocks of rows, in those groups of panels, in those tiles of rows.

    A group of panels and a block of rows stay in the cache while each is used again.
    """
    function = ir.Function(module, ir.FunctionType(void, [address]), name)
    build = ir.IRBuilder(function.append_basic_block("start"))
    matrix, x, x_stride, y, rows = fields(build, build.bitcast(function.args[0], PRODUCT.as_pointer()))
    weights, scales, bias, inputs, outputs, block, group_of_many = fields(build, matrix)
    weights = build.bitcast(weights, sweeps[1].args[2].type)
    panels = build.sdiv(outputs, number(width))
    # A single tile goes through all panels at once.
    single = build.icmp_signed("<=", rows, number(max(sweeps)))
    group = build.select(single, panels, group_of_many)
    first, end = team_part(build, panels)
    with counted(build, number(0), rows, block) as top:
        height = smaller(build, build.sub(rows, top), block)
        several = build.sdiv(build.add(height, number(_MOST_ROWS - 1)), number(_MOST_ROWS))
        count = build.select(single, number(1), several)
        with counted(build, first, end, group) as panel:
            until = smaller(build, build.add(panel, group), end)
            with counted(build, number(0), count, number(1)) as tile:
                # Tiles of about the same height: six and two rows take longer than four and four.
                above = build.sdiv(build.mul(height, tile), count)
                below = build.sdiv(build.mul(height, build.add(tile, number(1))), count)
                row = build.add(top, above)
                line = build.gep(x, [build.mul(row, x_stride)])
                place = build.gep(y, [build.mul(row, outputs)])
                done = function.append_basic_block("done")
                choice = build.switch(build.sub(below, above), done)
                for height_of_tile, sweep in sweeps.items():
                    case = function.append_basic_block(f"rows_{height_of_tile}")
                    choice.add_case(number(height_of_tile), case)
                    build.position_at_end(case)
                    given = [line, x_stride, weights, scales, bias, place, outputs, inputs, panel, until]
                    build.call(sweep, given)
                    build.branch(done)
                build.position_at_end(done)
    build.ret_void()
    return function
