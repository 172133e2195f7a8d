"""Projections and tables whose weights are fp16, for an x86 CPU: products and sums stay fp32.

Weights stored as fp16 are kept exactly. Those stored as bf16 are, too, from 2⁻¹⁴ to 65,504; smaller ones move by 2⁻²⁵
at most.
"""

from typing import Any

import torch
from torch import Tensor

_ops: Any = torch.ops.quantized
_BYTES = 2
LARGEST = 65504.0
"""Of fp16; what is packed beyond it would become that."""


def half_supported() -> bool:
    """Whether this processor's library has the products: fbgemm, which wants AVX2 and F16C."""
    return "fbgemm" in torch.backends.quantized.supported_engines


class HalfLinear:
    """``y = x·Wᵀ + b`` for fp32 ``x [n, in]`` and W in fp16, giving fp32 ``[n, out]``."""

    __slots__ = ("_packed", "packed_bytes")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """``weight [out, in]`` in fp32, none of it beyond LARGEST."""
        self._packed: Any = _ops.linear_prepack_fp16(weight, bias)
        self.packed_bytes = weight.numel() * _BYTES

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = _ops.linear_dynamic_fp16(x, self._packed)
        return y


class HalfEmbedding:
    """Rows of a table by token, widened as they are looked up; its head has them packed, once more."""

    __slots__ = ("_weight",)

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.to(torch.float16)

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def __call__(self, tokens: Tensor) -> Tensor:
        return self._weight.index_select(0, tokens).float()

    def head(self) -> HalfLinear:
        return HalfLinear(self._weight.float())
