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
