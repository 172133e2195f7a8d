"""``y = s ⊙ (x·Wᵀ) + b`` in fp32, with W as fp32, bf16, fp16 or int8, and s for int8 alone, written for LLVM.

W lies in panels ``[out / width, in, width]``, a panel one vector wide. As many rows as a tile has go through all panels
at once, more by ``spans_code``: a row's result has the same bits in any batch and on any number of threads. Threads are
those of the OpenMP runtime that torch uses, and share the panels. On processors that multiply tiles, bf16 and many rows
of fp16 and int8 go by ``tiles_code``.
"""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import BF16_PAIRS, FP32, INT8
from kindling_engine.jit.spans_code import spans_share
from kindling_engine.jit.sweeps_code import PANELS, STORED, Panels, by_height, sweep_make
from kindling_engine.jit.tiles_code import tiles_share
from kindling_engine.jit.writing import address, f32p, fields, i64, number, team_entry, team_part, void

ENTRY, SHARE = "linear", "linear_share"
_LEAST_ROWS_AHEAD, _LEAST_ROWS_AHEAD_OF_FP32 = 2, 3
"""Tiles with fewer rows read as fast as memory gives, whoever fetches."""

# W, s, b, inputs, outputs, rows of a block, inputs of a span: what does not change from call to call.
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
        share = _either(module, SHARE, few, many, rows_of_tiles)
    else:
        share = _rows_share(module, SHARE, width, stored)
    team_entry(module, ENTRY, PRODUCT, PRODUCT.elements, share)
    return module


def inputs_of(build: Any, matrix: Any) -> Any:
    """The length of a matrix's rows."""
    _, _, _, inputs, *_ = fields(build, matrix)
    return inputs


def _either(module: Any, name: str, few: Any, many: Any, rows_of_many: int) -> Any:
    """One of two functions, by the rows that there are."""
    function = ir.Function(module, ir.FunctionType(void, [address]), name)
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
    tile, spans = f"{name}_of_a_tile", f"{name}_of_more"
    return _either(
        module,
        name,
        _tile_share(module, tile, width, stored),
        spans_share(module, spans, PRODUCT, width, stored),
        max(PANELS[width]) + 1,
    )


def _tile_share(module: Any, name: str, width: int, stored: int) -> Any:
    """One thread's panels of as many rows as a tile may have."""
    fetched = _LEAST_ROWS_AHEAD_OF_FP32 if stored == FP32 else _LEAST_ROWS_AHEAD
    panels = Panels(width, stored, scaled=stored == INT8, fetched=fetched)
    sweeps = {
        rows: sweep_make(module, f"whole_{name}", panels, rows, most) for rows, most in PANELS[width].items()
    }
    function = ir.Function(module, ir.FunctionType(void, [address]), name)
    build = ir.IRBuilder(function.append_basic_block("start"))
    matrix, x, x_stride, y, rows = fields(build, build.bitcast(function.args[0], PRODUCT.as_pointer()))
    weights, scales, bias, inputs, outputs, *_ = fields(build, matrix)
    weights = build.bitcast(weights, STORED[stored][0].as_pointer())
    first, end = team_part(build, build.sdiv(outputs, number(width)))
    stride, yes = build.mul(inputs, number(width)), ir.Constant(ir.IntType(1), 1)
    given = [x, x_stride, weights, stride, scales, bias, y, outputs, inputs, yes, yes, first, end]
    by_height(build, rows, sweeps, given)
    build.ret_void()
    return function
