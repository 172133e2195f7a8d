"""Tables that tokens are looked up in, and that may be the model's head as well."""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

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
    """Rows as a plain tensor, given as ``dtype``; ``make_head`` makes a projection of them."""

    __slots__ = ("_dtype", "_make_head", "_weight")

    def __init__(
        self, weight: Tensor, dtype: torch.dtype, make_head: Callable[[Tensor], Projection] = head_make
    ) -> None:
        self._weight = weight
        self._dtype = dtype
        self._make_head = make_head

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    def __call__(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self._weight).to(self._dtype)

    def head(self) -> Projection:
        if self._weight.device.type == "cpu":
            # Every step reads all of it, so it is no longer left to the file.
            self._weight = self._weight.to(self._dtype, copy=True)
        return self._make_head(self._weight)
