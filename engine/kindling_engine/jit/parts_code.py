"""Floats as sums of bf16, laid out for the instructions of AMX, written for LLVM.

A finite float is the exact sum of three bf16: its upper 8 digits, the next 8 and the last 8. One that was fp16 is the
sum of two, and one that was int8 or bf16 is one. The instructions take numbers below 2⁻¹²⁶ for zero, so those below
2⁻¹¹⁰ lose digits; infinity has no other parts, and becomes NaN.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import BF16_PAIRS, CHUNK, FP16, INT8, TILE_WIDTH
from kindling_engine.jit.writing import (
    address,
    counted,
    f16,
    f32p,
    fetch,
    half_load,
    i8,
    i32,
    i64,
    integer_load,
    number,
    vector_load,
    void,
)

LINE = 64
"""Bytes of a tile's row, of whatever type, and of a line of the cache."""
TILE = TILE_WIDTH * LINE
PARTS_OF_X = 3
PARTS = {FP16: 2, INT8: 1, BF16_PAIRS: 1}
"""By what weights are stored as."""
STORED_BYTES = {FP16: 2, INT8: 1, BF16_PAIRS: 2}
_READ = {FP16: (f16, half_load), INT8: (i8, integer_load)}
_AHEAD = 2
"""Panels between the one that is split and the one that is fetched into the cache meanwhile."""
_words = ir.VectorType(i32, TILE_WIDTH)


def rows_split(module: Any) -> Any:
    """``(x, its stride, rows, chunks, parts)``: x as parts ``[3, chunks, rows, 16, 2]``."""
    function = ir.Function(module, ir.FunctionType(void, [f32p, i64, i64, i64, address]), "rows_split")
    function.linkage = "internal"
    x, stride, rows, chunks, parts = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    size = build.mul(build.mul(chunks, rows), number(LINE))
    with counted(build, number(0), rows, number(1)) as row:
        line = build.gep(x, [build.mul(row, stride)])
        with counted(build, number(0), chunks, number(1)) as chunk:
            start = build.mul(chunk, number(CHUNK))
            pair = [
                vector_load(build, build.gep(line, [build.add(start, number(at))]), TILE_WIDTH)
                for at in (0, TILE_WIDTH)
            ]
            place = build.gep(parts, [build.mul(build.add(build.mul(chunk, rows), row), number(LINE))])
            _store(
                build, pair, [build.gep(place, [build.mul(size, number(part))]) for part in range(PARTS_OF_X)]
            )
    build.ret_void()
    return function


def panel_split(module: Any, stored: int) -> Any:
    """``(W, bytes of a panel, chunks, parts)``: a panel's ``[chunks · 32, 16]`` as parts ``[…, chunks, 16, 16, 2]``."""
    function = ir.Function(module, ir.FunctionType(void, [address, i64, i64, address]), "panel_split")
    function.linkage = "internal"
    weights, panel, chunks, parts = function.args
    weight, read = _READ[stored]
    line_bytes = TILE_WIDTH * STORED_BYTES[stored]
    build = ir.IRBuilder(function.append_basic_block("start"))
    size = build.mul(chunks, number(TILE))
    with counted(build, number(0), chunks, number(1)) as chunk:
        here = build.gep(weights, [build.mul(chunk, number(CHUNK * line_bytes))])
        ahead = build.gep(here, [build.mul(panel, number(_AHEAD))])
        for at in range(0, CHUNK * line_bytes, LINE):
            fetch(build, build.gep(ahead, [number(at)]), 2)
        target = build.gep(parts, [build.mul(chunk, number(TILE))])
        for row in range(TILE_WIDTH):
            pair = [
                read(
                    build,
                    build.bitcast(build.gep(here, [number(at * line_bytes)]), weight.as_pointer()),
                    TILE_WIDTH,
                )
                for at in (row, row + TILE_WIDTH)
            ]
            places = [
                build.gep(target, [build.add(build.mul(size, number(part)), number(row * LINE))])
                for part in range(PARTS[stored])
            ]
            _store(build, pair, places)
    build.ret_void()
    return function


def _store(build: Any, pair: list[Any], places: list[Any]) -> None:
    """Two vectors of floats as pairs of bf16, part by part."""
    upper, half = (ir.Constant(_words, [value] * TILE_WIDTH) for value in (-(1 << 16), 16))
    for at, place in enumerate(places):
        bits = [build.bitcast(one, _words) for one in pair]
        taken = [build.and_(one, upper) for one in bits]
        both = build.or_(build.lshr(bits[0], half), taken[1])
        build.store(both, build.bitcast(place, _words.as_pointer()), align=LINE)
        if at + 1 < len(places):
            pair = [
                build.fsub(one, build.bitcast(digits, one.type))
                for one, digits in zip(pair, taken, strict=True)
            ]
