"""Projections and tables whose weights are fp16, or int8 with a scale per output, for a CPU.

No wider copy is kept. Activations and sums stay fp32 and are never quantised, so the rows of a batch share nothing but,
on processors that multiply tiles, the order of sums that goes with their number.
As fp16, weights stored as fp16 are kept exactly. Those stored as bf16 are, too, from 2⁻¹⁴ to 65,504; smaller ones move
by 2⁻²⁵ at most.
"""

from dataclasses import dataclass
from functools import partial
from typing import Self

import torch
from torch import Tensor

from kindling_engine.jit.linear import PackedLinear, linear_kernel
from kindling_engine.layers.linear import Projection

LARGEST_HALF = 65504.0
"""Of fp16; what lies beyond would become infinite."""
_LEVELS = 127
# A widened block should stay in the cache until it is multiplied; smaller ones pay more for calls.
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class CompactRows:
    """``W ≈ s ⊙ q`` with ``q [out, in]`` int8 and ``s [out]`` fp32, or ``W ≈ q`` with q in fp16."""

    values: Tensor
    scales: Tensor | None = None

    @classmethod
    def half(cls, weight: Tensor) -> Self:
        """Of ``[out, in]``, none of it beyond LARGEST_HALF."""
        return cls(weight.to(torch.float16))

    @classmethod
    def int8(cls, weight: Tensor) -> Self:
        """Quantise finite fp32 ``[out, in]``, symmetrically: s = max|w| / 127 over a row."""
        scales = weight.abs().amax(dim=1) / _LEVELS
        scales = torch.where(scales > 0, scales, 1.0)
        values = torch.empty(weight.shape, dtype=torch.int8)
        size = _block_rows(weight)
        # In blocks: the largest weight of a model need not be there twice.
        for start in range(0, weight.shape[0], size):
            block = slice(start, start + size)
            values[block] = (weight[block] / scales[block, None]).round_()
        return cls(values, scales)

    def rows(self, indices: Tensor) -> Tensor:
        """Some of W ``[n, in]``, as fp32."""
        rows = self.values.index_select(0, indices).float()
        return rows if self.scales is None else rows.mul_(self.scales.index_select(0, indices)[:, None])


class CompactLinear:
    """``y = s ⊙ (q·x) + b`` for fp32 ``x [n, in]``, giving fp32 ``[n, out]``.

    By code compiled for this processor; where there is none, a block of weights at a time is widened and multiplied.
    """

    __slots__ = ("_product", "compiled")

    def __init__(self, rows: CompactRows, bias: Tensor | None = None) -> None:
        kernel = linear_kernel()
        self.compiled: PackedLinear | None = None
        if kernel is not None and kernel.fits(rows.values):
            self.compiled = kernel.pack_as(rows.values.dtype, rows.values, bias, rows.scales)
        self._product: Projection = self.compiled or partial(_product, rows=rows, bias=bias)

    def __call__(self, x: Tensor) -> Tensor:
        return self._product(x)


class CompactTable:
    """Rows of a table by token, widened as they are looked up; its head shares them."""

    __slots__ = ("_rows",)

    def __init__(self, rows: CompactRows) -> None:
        self._rows: CompactRows | PackedLinear = rows

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    def __call__(self, tokens: Tensor) -> Tensor:
        return self._rows.rows(tokens)

    def head(self) -> Projection:
        if isinstance(self._rows, PackedLinear):
            return self._rows
        head = CompactLinear(self._rows)
        # Where the code has them packed, they lie no other way.
        self._rows = head.compiled or self._rows
        return head


def _product(x: Tensor, rows: CompactRows, bias: Tensor | None) -> Tensor:
    values = rows.values
    size = min(_block_rows(values), values.shape[0])
    wide = torch.empty((size, values.shape[1]))
    products = torch.empty((values.shape[0], x.shape[0]))
    columns = x.t()
    # q·xᵀ rather than x·qᵀ: a block's results lie in one piece, and few rows multiply faster so.
    for start in range(0, values.shape[0], size):
        block = values[start : start + size]
        torch.mm(wide[: block.shape[0]].copy_(block), columns, out=products[start : start + size])
    y = products.t().contiguous()
    if rows.scales is not None:
        y.mul_(rows.scales)
    return y if bias is None else y.add_(bias)


def _block_rows(weight: Tensor) -> int:
    return max(1, _BLOCK_BYTES // (4 * weight.shape[1]))
