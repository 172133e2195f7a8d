"""What a decoder does to rows between its products, written for LLVM: norms, and the gate of an MLP."""

from typing import Any

from llvmlite import ir

from kindling_engine.jit.operations import GATE_CODE, NORM_CODE, NORM_OF_SUM_CODE
from kindling_engine.jit.writing import (
    counted,
    exponential,
    f32,
    f32p,
    floats,
    i64,
    intrinsic,
    multiply_add,
    number,
    spread,
    total,
    vector_load,
    vector_store,
    void,
)


def rows_module(width: int) -> Any:
    """For vectors of ``width`` floats, by which rows divide.

    NORM_CODE takes x, its stride, w, y, rows, their size and ε: ``y = x / √(mean(x²) + ε) · w``. NORM_OF_SUM_CODE takes
    what is added to x first, with x's stride, in front of w; the sum stays in x. GATE_CODE takes x, its stride, y, rows
    and the size of y's: ``y = g / (1 + exp(-g)) · u`` for rows of g, then u. Rows of y follow each other.
    """
    module = ir.Module("rows")
    _norm(module, width, adds=False)
    _norm(module, width, adds=True)
    _gate(module, width)
    return module


def _norm(module: Any, width: int, *, adds: bool) -> None:
    more = [f32p] if adds else []
    kind = ir.FunctionType(void, [f32p, i64, *more, f32p, f32p, i64, i64, f32])
    function = ir.Function(module, kind, NORM_OF_SUM_CODE if adds else NORM_CODE)
    x, stride, *added, weight, y, rows, size, epsilon = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    # One for all rows: a place on the stack that is taken within a loop is given back only at the end.
    place = build.alloca(ir.VectorType(f32, width))
    root = intrinsic(module, "llvm.sqrt.f32", f32, [f32])
    with counted(build, number(0), rows, number(1)) as row:
        start = build.mul(row, stride)
        line, target = build.gep(x, [start]), build.gep(y, [build.mul(row, size)])
        build.store(floats(0.0, width), place)
        with counted(build, number(0), size, number(width)) as at:
            value = vector_load(build, build.gep(line, [at]), width)
            for other in added:
                value = build.fadd(value, vector_load(build, build.gep(other, [build.add(start, at)]), width))
                vector_store(build, value, build.gep(line, [at]))
            build.store(multiply_add(build, value, value, build.load(place)), place)
        mean = build.fdiv(total(build, build.load(place)), build.sitofp(size, f32))
        scale = build.fdiv(ir.Constant(f32, 1.0), build.call(root, [build.fadd(mean, epsilon)]))
        factor = spread(build, scale, width)
        with counted(build, number(0), size, number(width)) as at:
            value = build.fmul(vector_load(build, build.gep(line, [at]), width), factor)
            value = build.fmul(value, vector_load(build, build.gep(weight, [at]), width))
            vector_store(build, value, build.gep(target, [at]))
    build.ret_void()


def _gate(module: Any, width: int) -> None:
    function = ir.Function(module, ir.FunctionType(void, [f32p, i64, f32p, i64, i64]), GATE_CODE)
    x, stride, y, rows, size = function.args
    build = ir.IRBuilder(function.append_basic_block("start"))
    one = floats(1.0, width)
    with counted(build, number(0), rows, number(1)) as row:
        line, target = build.gep(x, [build.mul(row, stride)]), build.gep(y, [build.mul(row, size)])
        with counted(build, number(0), size, number(width)) as at:
            gate = vector_load(build, build.gep(line, [at]), width)
            other = vector_load(build, build.gep(line, [build.add(at, size)]), width)
            below = build.fadd(one, exponential(build, build.fsub(floats(-0.0, width), gate)))
            vector_store(build, build.fmul(build.fdiv(gate, below), other), build.gep(target, [at]))
    build.ret_void()
