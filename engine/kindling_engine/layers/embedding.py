"""Tables that tokens are looked up in, and that may be the model's head as well."""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.linear import Linear, Projection


class Table(Protocol):
    """Rows ``[vocab, hidden]`` by token, in whatever form they lie in memory."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the rows that it gives."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """``[n, hidden]`` of ``tokens [n]``."""

    def head(self) -> Projection:
        """The projection from ``[n, hidden]`` to logits ``[n, vocab]`` by the same rows."""


class Embedding:
    """Rows as a plain tensor; ``make_head`` makes a projection of it."""

    __slots__ = ("_make_head", "_weight")

    def __init__(self, weight: Tensor, make_head: Callable[[Tensor], Projection] = Linear) -> None:
        self._weight = weight
        self._make_head = make_head

    @property
    def dtype(self) -> torch.dtype:
        return self._weight.dtype

    def __call__(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self._weight)

    def head(self) -> Projection:
        return self._make_head(self._weight)
