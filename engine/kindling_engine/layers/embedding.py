"""Tables that tokens are looked up in, and that may be the model's head as well."""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.jit.linear import PackedLinear, linear_kernel
from kindling_engine.layers.linear import Linear, Projection
from kindling_engine.layers.table_head import TableHead


class Table(Protocol):
    """Rows ``[vocab, hidden]`` by token, in whatever form they lie in memory."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows that it gives."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """``[n, hidden]`` of ``tokens [n]``."""

    def head(self) -> Projection:
        """The projection from ``[n, hidden]`` to logits ``[n, vocab]`` by the same rows."""


def head_make(weight: Tensor) -> Projection:
    """The projection that keeps no second copy of the table."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return TableHead(weight) if on_cpu else Linear(weight)


class Embedding:
    """Rows as a plain tensor, given as ``dtype``; ``make_head`` makes a projection of them.

    Where code compiled for the processor multiplies with the rows, they lie as that code has them.
    """

    __slots__ = ("_dtype", "_make_head", "_packed", "_weight")

    def __init__(
        self, weight: Tensor, dtype: torch.dtype, make_head: Callable[[Tensor], Projection] = head_make
    ) -> None:
        self._weight = weight
        self._packed: PackedLinear | None = None
        self._dtype = dtype
        self._make_head = make_head

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def __call__(self, tokens: Tensor) -> Tensor:
        if self._packed is not None:
            return self._packed.rows(tokens)
        return F.embedding(tokens, self._weight).to(self._dtype)

    def head(self) -> Projection:
        kernel = linear_kernel() if self._weight.device.type == "cpu" else None
        if kernel is not None and self._dtype == torch.float32 and kernel.fits(self._weight):
            self._packed = kernel.pack(self._weight)
            self._weight = self._weight.new_empty(0)
            return self._packed
        if self._weight.device.type == "cpu":
            # Every step reads all of it, so it is no longer left to the file.
            self._weight = self._weight.to(self._dtype, copy=True)
        return self._make_head(self._weight)
