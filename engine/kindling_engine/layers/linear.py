"""Dense projection with weights laid out for the device."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.jit.linear import PackedLinear, linear_kernel

# Below this size the packed call's overhead (about 10 µs) outweighs what packing saves.
_PACK_FROM_BYTES = 1 << 20
# Packing is tuned for a row count. 32 is within a few per cent of the best from 1 to 512 rows, where the
# unpacked fp32 GEMM loses a factor of two between 2 and 16 rows: the very sizes of a decode batch.
_PACK_ROWS = 32

Projection = Callable[[Tensor], Tensor]
"""From ``[n, in]`` to ``[n, out]``, however its weights lie in memory."""


class Linear:
    """``y = x·Wᵀ + b`` for ``x [n, in]``, ``W [out, in]``, giving ``[n, out]``.

    By code compiled for this processor; where there is none, by oneDNN with W packed, or as torch does it.
    ``steady``: a row's bits do not depend on the rows beside it.
    """

    __slots__ = ("_product", "steady")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        plain = weight.device.type == "cpu" and weight.dtype == torch.float32
        kernel = linear_kernel() if plain else None
        self.steady = kernel is not None and kernel.fits(weight)
        self._product: Projection
        if kernel is not None and self.steady:
            self._product = kernel.pack(weight, bias)
        elif plain and weight.nbytes >= _PACK_FROM_BYTES and _can_pack():
            self._product = _packed(weight, bias)
        else:
            self._product = lambda x: F.linear(x, weight, bias)

    @property
    def compiled(self) -> PackedLinear | None:
        """The product of this processor's code, if it is one."""
        return self._product if isinstance(self._product, PackedLinear) else None

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x)


def _can_pack() -> bool:
    wanted = ("_reorder_linear_weight", "_linear_pointwise")
    return all(hasattr(torch.ops.mkldnn, name) for name in wanted)


def _packed(weight: Tensor, bias: Tensor | None) -> Projection:
    ops: Any = torch.ops.mkldnn
    call, packed = ops._linear_pointwise.default, ops._reorder_linear_weight(weight, _PACK_ROWS)

    def product(x: Tensor) -> Tensor:
        y: Tensor = call(x, packed, bias, "none", [], "")
        return y

    return product
