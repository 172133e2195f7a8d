"""What every kernel here is written with, on a device and in Triton's interpreter."""

import os

import triton
import triton.language as tl

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on tensors of the CPU. Set before triton is imported or not at all."""

_WIDE = tl.constexpr(INTERPRETED)


@triton.jit
def dot(a, b, acc):
    """``acc + a·b`` in fp32 for operands of one narrow dtype.

    The interpreter multiplies bf16 wrongly, so operands are widened there; fp32 operands are multiplied exactly
    everywhere.
    """
    if _WIDE:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), acc, input_precision="ieee")
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def widened(x, dtype: tl.constexpr):
    """``x`` in ``dtype``; from e4m3 to bf16 by way of fp32, which is exact and 16 times as fast as straight.

    The compiler would move the cast behind the one of layouts that a product asks for, where e4m3 is gathered byte by
    byte; assembly, which does nothing, stays where it is.
    """
    if x.dtype != dtype:
        x = x.to(tl.float32).to(dtype)
        if not _WIDE and x.dtype.primitive_bitwidth == 16:
            x = tl.inline_asm_elementwise(
                "mov.b32 $0, $1;", "=r,r", [x], dtype=x.dtype, is_pure=False, pack=2
            )
    return x


@triton.jit
def to_e4m3(x):
    """fp32 ``x`` as e4m3, to nearest even, numbers beyond ±448 as ±448.

    The interpreter's cast loses the carry of a mantissa that rounds up, so there the rounding is done beforehand.
    """
    x = tl.clamp(x, -448.0, 448.0)
    if _WIDE:
        exponent = tl.maximum((x.to(tl.int32, bitcast=True) >> 23) & 0xFF, 121)
        step = ((exponent - 3) << 23).to(tl.float32, bitcast=True)
        x = (x / step + 12582912.0 - 12582912.0) * step
    return x.to(tl.float8e4nv)
