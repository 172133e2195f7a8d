"""``y = s ⊙ (x·Wᵀ) + b`` for fp32 x, by the instructions of AMX on tiles of bf16, written for LLVM.

Each float is the exact sum of three bf16 (``parts_code``). So x is three matrices of bf16, W as many as its weights
have digits for, and their products, which the instruction sums up in fp32, are as exact as fused multiply-adds in fp32;
that of the two smallest parts, below 2⁻²² of a product, is left out. A row's sums go in one order whatever rows stand
beside it, so it has the same bits in any batch and on any number of threads.

A tile of W is ``[16 pairs of inputs, 16 outputs]``. Weights in bf16 lie so, as ``panels.pairs_pack`` has them; others
are split as they are read. Each thread splits for itself what it multiplies next, of x and of W, so threads that would
have few panels of many rows share the rows as well.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby, product
from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import BF16_PAIRS, CHUNK, INT8, TILE_WIDTH
from kindling_engine.jit.parts_code import (
    LINE,
    PARTS,
    PARTS_OF_X,
    STORED_BYTES,
    TILE,
    panel_split,
    rows_split,
)
from kindling_engine.jit.writing import (
    address,
    counted,
    fetch,
    fields,
    i8,
    i64,
    intrinsic,
    multiply_add,
    number,
    smaller,
    team_place,
    vector_load,
    vector_store,
    void,
)

_BLOCK, _BLOCK_OF_SPLIT = (64, 32), (128, 16)
"""Rows and chunks of x that are split at a time: 384 kB, in the second-level cache. More rows and fewer chunks where W
is split as well, into 64 kB for each of its parts.
"""
_GROUP = 4
"""Panels that all rows of a block go through one after another."""
_AHEAD = 3
"""Tiles of a panel between the one that is multiplied and the one that is fetched into the cache meanwhile."""

# Rows of tiles by columns of tiles that are summed up at once. With what they are made of they are eight at most.
_LOW, _HIGH = 1, 2
_COLUMNS = (2, 1)

# Which parts of x and of W are multiplied, by how many W has; those of W change seldom, as they are read for each.
_TERMS = {
    1: ((0, 0), (1, 0), (2, 0)),
    2: ((0, 1), (1, 1), (1, 0), (2, 0), (0, 0)),
}

_line = ir.VectorType(i64, LINE // 8)


def tiles_share(module: Any, name: str, product_type: Any, stored: int) -> Any:
    """A function that takes the address of a ``linear_code.PRODUCT``, and does one thread's part of it."""
    split = rows_split(module)
    # What lies as tiles is read where it lies.
    split_panel = None if stored == BF16_PAIRS else panel_split(module, stored)
    most_rows, most_chunks = _BLOCK_OF_SPLIT if split_panel else _BLOCK
    kernels = {shape: _kernel(module, *shape, stored) for shape in product((_LOW, _HIGH), _COLUMNS)}
    function = ir.Function(module, ir.FunctionType(void, [address]), name)
    # Half a megabyte of stack: a thread that has less ends there, and writes nowhere else. llvmlite's own way refuses
    # names that it does not know.
    set.add(function.attributes, '"probe-stack"="inline-asm"')
    build = ir.IRBuilder(function.append_basic_block("start"))
    parts = _place(build, ir.ArrayType(_line, PARTS_OF_X * most_chunks * most_rows))
    panel_lines = _GROUP * PARTS[stored] * most_chunks * TILE_WIDTH if split_panel else 1
    panel_parts = _place(build, ir.ArrayType(_line, panel_lines))
    shapes = _Shapes(build)
    matrix, x, x_stride, y, rows = fields(build, build.bitcast(function.args[0], product_type.as_pointer()))
    weights, scales, bias, inputs, outputs, *_ = fields(build, matrix)
    bias_bytes, y_bytes = (build.bitcast(one, address) for one in (bias, y))
    y_stride = build.mul(outputs, number(LINE // TILE_WIDTH))
    panels, chunks = build.sdiv(outputs, number(TILE_WIDTH)), build.sdiv(inputs, number(CHUNK))
    chunk_bytes = number(CHUNK * TILE_WIDTH * STORED_BYTES[stored])
    panel_bytes = build.mul(chunks, chunk_bytes)
    rows_from, rows_to, first, end = _part(build, rows, panels)

    def weights_at(panel: Any) -> Any:
        return build.gep(weights, [build.add(build.mul(panel, panel_bytes), build.mul(chunk, chunk_bytes))])

    def panel_split_at(panel: Any) -> Any:
        return build.gep(panel_parts, [build.mul(build.sub(panel, group), split_bytes)])

    def multiply(row: Any, high: int, wide: int, panel: Any) -> None:
        """Tiles from a row of the block and a panel of the group on."""
        place = build.add(build.mul(build.add(top, row), y_stride), build.mul(panel, number(LINE)))
        tiles, stride = weights_at(panel), panel_bytes
        if split_panel:
            tiles, stride = panel_split_at(panel), split_bytes
        given = [
            build.gep(parts, [build.mul(row, number(LINE))]),
            height,
            tiles,
            stride,
            build.gep(bias_bytes, [build.mul(panel, number(LINE))]),
            build.gep(y_bytes, [place]),
            y_stride,
            deep,
            begins,
        ]
        build.call(kernels[high, wide], given)

    with counted(build, number(0), chunks, number(most_chunks)) as chunk:
        deep = smaller(build, build.sub(chunks, chunk), number(most_chunks))
        split_bytes = build.mul(deep, number(PARTS[stored] * TILE))
        begins = build.icmp_signed("==", chunk, number(0))
        with counted(build, rows_from, rows_to, number(most_rows)) as top:
            height = smaller(build, build.sub(rows_to, top), number(most_rows))
            source = build.gep(x, [build.add(build.mul(top, x_stride), build.mul(chunk, number(CHUNK)))])
            build.call(split, [source, x_stride, height, deep, parts])
            with counted(build, first, end, number(_GROUP)) as group:
                until = smaller(build, build.add(group, number(_GROUP)), end)
                if split_panel:
                    with counted(build, group, until, number(1)) as panel:
                        build.call(split_panel, [weights_at(panel), panel_bytes, deep, panel_split_at(panel)])
                with counted(build, number(0), height, number(_HIGH * TILE_WIDTH)) as row:
                    left = smaller(build, build.sub(height, row), number(_HIGH * TILE_WIDTH))
                    _by_height(build, left, (group, until), shapes, partial(multiply, row))
    _call(build, "tilerelease")
    if stored == INT8:
        _scale(build, (y, outputs), (rows_from, rows_to, first, end), (scales, bias))
    build.ret_void()
    return function


def _by_height(
    build: Any,
    rows: Any,
    panels: tuple[Any, Any],
    shapes: "_Shapes",
    multiply: Callable[[int, int, Any], None],
) -> None:
    """Panels from one to another by one tile of rows or by two, as many panels at once as there are tiles for."""
    first, end = panels
    low = build.icmp_signed("<=", rows, number(TILE_WIDTH))
    with build.if_else(low) as branches:
        for high, branch in zip((_LOW, _HIGH), branches, strict=True):
            with branch:
                begin = first
                for wide in _COLUMNS:
                    count = build.sdiv(build.sub(end, begin), number(wide))
                    stop = build.add(begin, build.mul(count, number(wide)))
                    with counted(build, begin, stop, number(wide)) as panel:
                        shapes.set(high, wide, rows)
                        multiply(high, wide, panel)
                    begin = stop


class _Shapes:
    """What rows the processor takes tiles to have; they are told anew only where they differ."""

    def __init__(self, build: Any) -> None:
        self._build = build
        self._told = _place(build, _line)
        # The first palette, and rows of 64 bytes in all eight.
        all_wide = int.from_bytes(LINE.to_bytes(2, "little") * 4, "little")
        told = build.bitcast(self._told, _line.as_pointer())
        build.store(ir.Constant(_line, [1, 0, all_wide, all_wide, 0, 0, 0, 0]), told, align=LINE)
        self._last = build.alloca(i64)
        build.store(number(0), self._last)

    def set(self, high: int, wide: int, rows: Any) -> None:
        """For ``rows`` by ``high`` times ``wide`` tiles."""
        build = self._build
        shape = build.add(build.mul(rows, number(TILE)), number(high * TILE_WIDTH + wide))
        with build.if_then(build.icmp_signed("!=", shape, build.load(self._last))):
            build.store(shape, self._last)
            full = number(TILE_WIDTH)
            heights = [smaller(build, rows, full), build.sub(rows, full)]
            tiles = [full] * 8
            for row, column in product(range(high), range(wide)):
                tiles[row * wide + column] = heights[row]
            for at, place in enumerate(range(4, 4 + (PARTS_OF_X if high == _LOW else _HIGH))):
                tiles[place] = heights[0 if high == _LOW else at]
            for at, tile_rows in enumerate(tiles):
                build.store(build.trunc(tile_rows, i8), build.gep(self._told, [number(48 + at)]))
            _call(build, "ldtilecfg", self._told)


def _part(build: Any, rows: Any, panels: Any) -> tuple[Any, Any, Any, Any]:
    """A thread's rows and panels, from which to which: all rows, unless there are many, and few panels for a thread."""
    own, threads = team_place(build)
    enough = build.sdiv(build.add(panels, number(_GROUP - 1)), number(_GROUP))
    many = build.icmp_signed(">", rows, number(_HIGH * TILE_WIDTH))
    across = build.select(many, smaller(build, threads, enough), threads)
    down = build.sdiv(threads, across)
    column, line = build.srem(own, across), build.sdiv(own, across)
    rows_from, rows_to = (
        build.sdiv(build.mul(rows, smaller(build, at, down)), down)
        for at in (line, build.add(line, number(1)))
    )
    panels_from, panels_to = (
        build.sdiv(build.mul(panels, at), across) for at in (column, build.add(column, number(1)))
    )
    return rows_from, rows_to, panels_from, panels_to


def _scale(build: Any, result: tuple[Any, Any], part: tuple[Any, Any, Any, Any], by: tuple[Any, Any]) -> None:
    """``y = s ⊙ y + b`` in a thread's part."""
    (y, outputs), (scales, bias), one = result, by, number(1)
    rows_from, rows_to, first, end = part
    with counted(build, rows_from, rows_to, one) as row, counted(build, first, end, one) as panel:
        column = build.mul(panel, number(TILE_WIDTH))
        place = build.gep(y, [build.add(build.mul(row, outputs), column)])
        scale, shift, value = (
            vector_load(build, one, TILE_WIDTH)
            for one in (build.gep(scales, [column]), build.gep(bias, [column]), place)
        )
        vector_store(build, multiply_add(build, value, scale, shift), place)


def _kernel(module: Any, high: int, wide: int, stored: int) -> Any:
    """``(parts, rows of their block, W, bytes of a panel, b, y, stride of y in bytes, chunks, whether y begins)``: up
    to ``high`` tiles of rows by ``wide`` panels. What begins does so with b, or with nothing if it is to be scaled;
    else y holds what was summed up before.
    """
    kind = ir.FunctionType(void, [address, i64, address, i64, address, address, i64, i64, ir.IntType(1)])
    function = ir.Function(module, kind, f"tiles_{high}_{wide}")
    function.linkage = "internal"
    parts, rows, weights, panel, bias, y, y_stride, chunks, begins = function.args
    start, loop, end = (function.append_basic_block(name) for name in ("start", "loop", "end"))
    build = ir.IRBuilder(start)
    step = build.mul(rows, number(LINE))
    size, split_size = build.mul(chunks, step), build.mul(chunks, number(TILE))
    columns = [build.gep(weights, [build.mul(panel, number(column))]) for column in range(wide)]
    sums = [(row * wide + column, row, column) for row, column in product(range(high), range(wide))]
    places = [
        build.gep(y, [build.add(build.mul(y_stride, number(TILE_WIDTH * row)), number(LINE * column))])
        for _, row, column in sums
    ]
    with build.if_else(begins) as (anew, further):
        with anew:
            for tile, _, column in sums:
                if stored == INT8:
                    _call(build, "tilezero", tile)
                else:
                    _call(build, "tileloadd64", tile, build.gep(bias, [number(LINE * column)]), number(0))
        with further:
            for (tile, *_), place in zip(sums, places, strict=True):
                _call(build, "tileloadd64", tile, place, y_stride)
    before = build.block
    build.branch(loop)

    build.position_at_end(loop)
    at = build.phi(i64)
    at.add_incoming(number(0), before)
    mine = build.gep(parts, [build.mul(at, step)])
    here = [build.gep(column, [build.mul(at, number(TILE))]) for column in columns]
    factors = [build.gep(mine, [build.mul(size, number(part))]) for part in range(PARTS_OF_X)]
    split = [
        [build.gep(one, [build.mul(split_size, number(part))]) for one in here]
        for part in range(PARTS[stored])
    ]
    _multiply(build, high, factors, split)
    if stored == BF16_PAIRS:
        for place, line in product(here, range(TILE_WIDTH)):
            fetch(build, build.gep(place, [number(_AHEAD * TILE + LINE * line)]), 1)
    following = build.add(at, number(1))
    at.add_incoming(following, loop)
    build.cbranch(build.icmp_signed("<", following, chunks), loop, end)

    build.position_at_end(end)
    for (tile, *_), place in zip(sums, places, strict=True):
        _call(build, "tilestored64", tile, place, y_stride)
    build.ret_void()
    return function


def _multiply(build: Any, high: int, factors: list[Any], split: list[list[Any]]) -> None:
    """Adds products of tiles of x, by their parts, with those of W, by part and panel, to the tiles with the sums."""
    line, wide = number(LINE), len(split[0])
    terms = [
        (own, [part for part, _ in some]) for own, some in groupby(_TERMS[len(split)], lambda one: one[1])
    ]
    if high == _LOW:
        for part, factor in enumerate(factors):
            _call(build, "tileloadd64", 4 + part, factor, line)
        for own, parts in terms:
            for column, place in enumerate(split[own]):
                _call(build, "tileloadd64", 7, place, line)
                for part in parts:
                    _call(build, "tdpbf16ps", column, 4 + part, 7)
        return
    for own, parts in terms:
        for column, place in enumerate(split[own]):
            _call(build, "tileloadd64", 6 + column, place, line)
        for part in parts:
            for row in range(high):
                _call(build, "tileloadd64", 4 + row, build.gep(factors[part], [number(TILE * row)]), line)
            for row, column in product(range(high), range(wide)):
                _call(build, "tdpbf16ps", row * wide + column, 4 + row, 6 + column)


_INTRINSICS = {
    "ldtilecfg": [address],
    "tilerelease": [],
    "tilezero": [i8],
    "tileloadd64": [i8, address, i64],
    "tilestored64": [i8, address, i64],
    "tdpbf16ps": [i8, i8, i8],
}


def _call(build: Any, name: str, *given: Any) -> None:
    """An instruction; plain numbers are tiles."""
    called = intrinsic(build.module, f"llvm.x86.{name}", void, _INTRINSICS[name])
    build.call(called, [ir.Constant(i8, one) if isinstance(one, int) else one for one in given])


def _place(build: Any, kind: Any) -> Any:
    """The address of memory on the stack that begins with a line of the cache."""
    place = build.alloca(kind)
    place.align = LINE
    return build.bitcast(place, address)
