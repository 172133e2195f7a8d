"""Tiles of a few rows of x by some panels of W, and sweeps of them over more panels, written for LLVM.

A tile is summed up in registers while its panels stream by: each weight is read once for all rows of the tile, and each
sum adds its products in the order of ``in`` with one rounding each.
"""

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import BF16, FP16, FP32, INT8
from kindling_engine.jit.writing import (
    counted,
    f16,
    f32,
    f32p,
    fetch,
    floats,
    half_load,
    i8,
    i16,
    i64,
    integer_load,
    multiply_add,
    narrow_load,
    number,
    spread,
    vector_load,
    vector_store,
    void,
)

# Panels of a tile by its rows, by the floats in a vector. Sums that do not wait for each other keep the units busy, and
# with what they are made of they have to fit into 16 registers, or 32 of AVX-512's.
PANELS = {
    8: {1: 8, 2: 4, 3: 2, 4: 2, 5: 2, 6: 2},
    16: {1: 8, 2: 8, 3: 6, 4: 6, 5: 4, 6: 4, 7: 2, 8: 2},
}
AHEAD = 4
"""Panels between the one that is multiplied and the one that is fetched into the cache meanwhile."""
UNROLL = 2
"""Inputs that one turn of the innermost loop takes."""

# What a weight is stored as, and what reads a vector of them.
STORED = {
    FP32: (f32, vector_load),
    BF16: (i16, narrow_load),
    FP16: (f16, half_load),
    INT8: (i8, integer_load),
}
_flag = ir.IntType(1)
_BEFORE_PANELS = (f32p, i64)
_BEHIND_PANELS = (f32p, f32p, f32p, i64, i64, _flag, _flag)


@dataclass(frozen=True, slots=True)
class Panels:
    """What tiles read: panels of vectors of ``width`` floats, ``stored`` as what has this number.

    ``scaled``: whether sums are multiplied by s in the end. ``fetched``: from how many rows on a tile asks for panels
    ahead of it.
    """

    width: int
    stored: int
    scaled: bool
    fetched: int


def sweep_make(module: Any, name: str, panels: Panels, rows: int, most: int) -> Any:
    """``(x, its stride, W, stride of panels, s, b, y, its stride, inputs, begins, ends, first panel, end of panels)``:
    some rows by a range of panels, up to ``most`` at once.

    Sums begin with b, or with what y holds where this is not where they begin; s, b, y are those of panel 0.
    """
    tiles = {count: _tile(module, f"{name}_{rows}_{count}", panels, rows, count) for count in _halves(most)}
    weight = STORED[panels.stored][0].as_pointer()
    kind = ir.FunctionType(void, [*_BEFORE_PANELS, weight, i64, *_BEHIND_PANELS, i64, i64])
    function = ir.Function(module, kind, f"{name}_{rows}")
    function.linkage = "internal"
    x, x_stride, weights, stride, scales, bias, y, y_stride, inputs, begins, ends, begin, end = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    for count, tile in tiles.items():
        times = build.sdiv(build.sub(end, begin), number(count))
        until = build.add(begin, build.mul(times, number(count)))
        with counted(build, begin, until, number(count)) as panel:
            column = build.mul(panel, number(panels.width))
            source = build.gep(weights, [build.mul(stride, panel)])
            places = [build.gep(one, [column]) for one in (scales, bias, y)]
            build.call(tile, [x, x_stride, source, stride, *places, y_stride, inputs, begins, ends])
        begin = until
    build.ret_void()
    return function


def by_height(build: Any, height: Any, sweeps: dict[int, Any], given: list[Any]) -> None:
    """Call the sweep for so many rows."""
    function = build.function
    done = function.append_basic_block("done")
    choice = build.switch(height, done)
    for rows, sweep in sweeps.items():
        case = function.append_basic_block(f"rows_{rows}")
        choice.add_case(number(rows), case)
        build.position_at_end(case)
        build.call(sweep, given)
        build.branch(done)
    build.position_at_end(done)


def _halves(most: int) -> list[int]:
    """Panels of tiles for what is left behind those of ``most``, the widest first."""
    return [most] if most == 1 else [most, *_halves((most + 1) // 2)]


def _tile(module: Any, name: str, panels: Panels, rows: int, count: int) -> Any:
    """``(x, its stride, W, stride of panels, s, b, y, its stride, inputs, begins, ends)``."""
    width, vector = panels.width, ir.VectorType(f32, panels.width)
    weight, read = STORED[panels.stored]
    kind = ir.FunctionType(void, [*_BEFORE_PANELS, weight.as_pointer(), i64, *_BEHIND_PANELS])
    function = ir.Function(module, kind, f"tile_{name}")
    function.linkage = "internal"
    x, x_stride, weights, stride, scales, bias, y, y_stride, inputs, begins, ends = function.args

    start, loop, end = (function.append_basic_block(name) for name in ("start", "loop", "end"))
    build = ir.IRBuilder(start)
    lines = [build.gep(x, [build.mul(x_stride, number(row))]) for row in range(rows)]
    sources = [build.gep(weights, [build.mul(stride, number(panel))]) for panel in range(count)]
    places = [
        [
            build.gep(y, [build.add(build.mul(y_stride, number(row)), number(panel * width))])
            for panel in range(count)
        ]
        for row in range(rows)
    ]
    shifts = [vector_load(build, build.gep(bias, [number(panel * width)]), width) for panel in range(count)]
    new = [floats(0.0, width)] * count if panels.scaled else shifts
    first = [
        [
            build.select(begins, new[panel], vector_load(build, places[row][panel], width))
            for panel in range(count)
        ]
        for row in range(rows)
    ]
    build.branch(loop)

    build.position_at_end(loop)
    at = build.phi(i64)
    at.add_incoming(number(0), start)
    sums = [[build.phi(vector) for _ in range(count)] for _ in range(rows)]
    grown = [list(row) for row in sums]
    if rows >= panels.fetched:
        ahead = build.add(build.mul(at, number(width)), build.mul(stride, number(AHEAD)))
        for source in sources:
            fetch(build, build.gep(source, [ahead]), 2)
    for step in range(UNROLL):
        here = build.add(at, number(step))
        offset = build.mul(here, number(width))
        column = [read(build, build.gep(source, [offset]), width) for source in sources]
        for row in range(rows):
            factor = spread(build, build.load(build.gep(lines[row], [here])), width)
            for panel in range(count):
                grown[row][panel] = multiply_add(build, factor, column[panel], grown[row][panel])
    following = build.add(at, number(UNROLL))
    at.add_incoming(following, loop)
    for row in range(rows):
        for panel in range(count):
            sums[row][panel].add_incoming(first[row][panel], start)
            sums[row][panel].add_incoming(grown[row][panel], loop)
    build.cbranch(build.icmp_signed("<", following, inputs), loop, end)

    build.position_at_end(end)
    for panel in range(count):
        if panels.scaled:
            scale = vector_load(build, build.gep(scales, [number(panel * width)]), width)
            for row in range(rows):
                whole = multiply_add(build, grown[row][panel], scale, shifts[panel])
                grown[row][panel] = build.select(ends, whole, grown[row][panel])
        for row in range(rows):
            vector_store(build, grown[row][panel], places[row][panel])
    build.ret_void()
    return function
