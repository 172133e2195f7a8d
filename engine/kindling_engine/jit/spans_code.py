"""``y = s ⊙ (x·Wᵀ) + b`` for many rows, written for LLVM: spans of the inputs, in those blocks of rows, in those groups
of panels, in those tiles of rows.

A span of a block's rows and of a group's panels stay in the cache while each is used again, however long the rows are.
What is summed up of a span lies in y until the next, in which each sum goes on: a row has the bits that it has alone.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import FP32, INT8
from kindling_engine.jit.sweeps_code import PANELS, STORED, Panels, by_height, sweep_make
from kindling_engine.jit.writing import (
    address,
    counted,
    fields,
    number,
    smaller,
    team_part,
    void,
)

_GROUP = 4
"""Panels that all rows of a block go through one after another."""
_MOST_ROWS, _LEAST_ROWS = 6, 3
"""Of a tile. More than the tallest takes are tiles of about the same height: six and two rows take longer than four and
four."""
_MOST_PANELS = 2
"""Of a tile whose weights are widened as they are read, which takes registers."""


def spans_share(module: Any, name: str, product_type: Any, width: int, stored: int) -> Any:
    """A function that takes the address of a PRODUCT of more rows than a tile has, and does one thread's part of it."""
    panels = Panels(width, stored, scaled=stored == INT8, fetched=0)
    most = _GROUP if stored == FP32 else _MOST_PANELS
    sweeps = {
        rows: sweep_make(module, f"span_{name}", panels, rows, min(most, PANELS[width][rows]))
        for rows in range(_LEAST_ROWS, _MOST_ROWS + 1)
    }
    function = ir.Function(module, ir.FunctionType(void, [address]), name)
    build = ir.IRBuilder(function.append_basic_block("start"))
    matrix, x, x_stride, y, rows = fields(build, build.bitcast(function.args[0], product_type.as_pointer()))
    weights, scales, bias, inputs, outputs, block, span = fields(build, matrix)
    weights = build.bitcast(weights, STORED[stored][0].as_pointer())
    first, end = team_part(build, build.sdiv(outputs, number(width)))
    blocks = _parts(build, rows, block)
    whole = build.mul(inputs, number(width))
    with counted(build, number(0), inputs, span) as at:
        deep = smaller(build, build.sub(inputs, at), span)
        begins = build.icmp_signed("==", at, number(0))
        ends = build.icmp_signed("==", build.add(at, deep), inputs)
        here = build.gep(weights, [build.mul(at, number(width))])
        with counted(build, number(0), blocks, number(1)) as part:
            top, bottom = _part(build, rows, part, blocks)
            height = build.sub(bottom, top)
            tiles = _parts(build, height, number(_MOST_ROWS))
            with counted(build, first, end, number(_GROUP)) as panel:
                until = smaller(build, build.add(panel, number(_GROUP)), end)
                with counted(build, number(0), tiles, number(1)) as tile:
                    above, below = _part(build, height, tile, tiles)
                    row = build.add(top, above)
                    line = build.gep(x, [build.add(build.mul(row, x_stride), at)])
                    place = build.gep(y, [build.mul(row, outputs)])
                    given = [line, x_stride, here, whole, scales, bias, place, outputs]
                    by_height(
                        build, build.sub(below, above), sweeps, [*given, deep, begins, ends, panel, until]
                    )
    build.ret_void()
    return function


def _parts(build: Any, whole: Any, most: Any) -> Any:
    """Into how many parts of ``most`` at the most a whole goes."""
    return build.sdiv(build.add(whole, build.sub(most, number(1))), most)


def _part(build: Any, whole: Any, at: Any, count: Any) -> tuple[Any, Any]:
    """From which to which a part goes, where all have about the same size."""
    return (
        build.sdiv(build.mul(whole, at), count),
        build.sdiv(build.mul(whole, build.add(at, number(1))), count),
    )
