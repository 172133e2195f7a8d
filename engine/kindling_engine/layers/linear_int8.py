"""Projections and tables whose weights are int8 with a scale per output channel, for a CPU.

The weights stay a quarter of their fp32 size; no wider copy is kept. Activations are never quantised, so no scale is
shared between the rows of a batch.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

_LEVELS = 127
# Up to here the int8 kernel is at least as fast as widening a block of weights and multiplying in fp32.
_KERNEL_ROWS = 8
# The kernel reads its inputs in whole vectors, and beyond their end where they do not divide.
_KERNEL_MULTIPLE = 32
# A widened block should stay in the cache until it is multiplied; smaller ones pay more for calls.
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """``W ≈ s ⊙ q`` with ``q [out, in]`` int8 and ``s [out]`` fp32, symmetric: s = max|w| / 127 over a row."""

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Self:
        """Quantise finite fp32 ``[out, in]``."""
        scales = weight.abs().amax(dim=1) / _LEVELS
        scales = torch.where(scales > 0, scales, 1.0)
        values = torch.empty(weight.shape, dtype=torch.int8)
        size = _block_rows(weight)
        # In blocks: the largest weight of a model need not be there twice.
        for start in range(0, weight.shape[0], size):
            block = slice(start, start + size)
            values[block] = (weight[block] / scales[block, None]).round_()
        return cls(values, scales)


class Int8Linear:
    """``y = s ⊙ (q·x) + b`` for fp32 ``x [n, in]``, giving fp32 ``[n, out]``.

    x and q·x are rounded to bf16, which is what the kernel for few rows computes with. The other path rounds at the
    same places, so that a row's result does not depend on how many others there are.
    """

    __slots__ = ("_bias", "_ones", "_rows")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._rows = Int8Rows.of(weight)
        self._bias = bias
        # The kernel would round the scales to bf16, too; they are applied afterwards instead.
        self._ones: Tensor | None = None
        if weight.shape[1] % _KERNEL_MULTIPLE == 0:
            self._ones = torch.ones(weight.shape[0], dtype=torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        rounded = x.to(torch.bfloat16)
        if self._ones is not None and x.shape[0] <= _KERNEL_ROWS:
            products = torch._weight_int8pack_mm(rounded.contiguous(), self._rows.values, self._ones)
        else:
            products = _multiplied(rounded.float(), self._rows.values).to(torch.bfloat16)
        return _scaled(products, self._rows.scales, self._bias)


class Int8Embedding:
    """Rows of a table by token, widened as they are looked up; its head shares them."""

    __slots__ = ("_rows",)

    def __init__(self, weight: Tensor) -> None:
        self._rows = Int8Rows.of(weight)

    @property
    def dtype(self) -> torch.dtype:
        return self._rows.scales.dtype

    def __call__(self, tokens: Tensor) -> Tensor:
        values = self._rows.values.index_select(0, tokens)
        return torch.mul(values, self._rows.scales.index_select(0, tokens)[:, None])

    def head(self) -> "Int8Head":
        return Int8Head(self._rows)


class Int8Head:
    """Logits ``s ⊙ (q·x)`` in fp32 throughout: in bf16 the best two of them are too often the same number."""

    __slots__ = ("_rows",)

    def __init__(self, rows: Int8Rows) -> None:
        self._rows = rows

    def __call__(self, x: Tensor) -> Tensor:
        return _scaled(_multiplied(x, self._rows.values), self._rows.scales, None)


def _multiplied(x: Tensor, values: Tensor) -> Tensor:
    """``x [n, in]`` by int8 ``values [out, in]`` in fp32, a block of values at a time, as a view ``[n, out]``."""
    size = min(_block_rows(values), values.shape[0])
    wide = torch.empty((size, values.shape[1]))
    products = torch.empty((values.shape[0], x.shape[0]))
    columns = x.t()
    # q·xᵀ rather than x·qᵀ: a block's results lie in one piece, and few rows multiply faster so.
    for start in range(0, values.shape[0], size):
        block = values[start : start + size]
        torch.mm(wide[: block.shape[0]].copy_(block), columns, out=products[start : start + size])
    return products.t()


def _scaled(products: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
    y = torch.mul(products, scales, out=torch.empty(products.shape))
    return y if bias is None else y.add_(bias)


def _block_rows(weight: Tensor) -> int:
    return max(1, _BLOCK_BYTES // (4 * weight.shape[1]))
