"""Dense projection with weights laid out for the device."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this size the packed call's overhead (about 10 µs) outweighs what packing saves.
_PACK_FROM_BYTES = 1 << 20
# Packing is tuned for a row count. 32 is within a few per cent of the best from 1 to 512 rows, where the
# unpacked fp32 GEMM loses a factor of two between 2 and 16 rows: the very sizes of a decode batch.
_PACK_ROWS = 32

Projection = Callable[[Tensor], Tensor]
"""From ``[n, in]`` to ``[n, out]``, however its weights lie in memory."""


class Linear:
    """``y = x·Wᵀ + b`` for ``x [n, in]``, ``W [out, in]``, giving ``[n, out]``."""

    __slots__ = ("_bias", "_call", "_packed", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._bias = bias
        self._call: Callable[..., Tensor] | None = None
        self._packed: Tensor | None = None
        self._weight: Tensor | None = weight
        if weight.numel() * weight.element_size() >= _PACK_FROM_BYTES and _can_pack(weight):
            ops: Any = torch.ops.mkldnn
            self._call = ops._linear_pointwise.default
            self._packed = ops._reorder_linear_weight(weight, _PACK_ROWS)
            self._weight = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._call is not None:
            return self._call(x, self._packed, self._bias, "none", [], "")
        return F.linear(x, self._weight, self._bias)  # type: ignore[arg-type]


def _can_pack(weight: Tensor) -> bool:
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
