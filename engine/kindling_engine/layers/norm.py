"""Root-mean-square norm (Zhang and Sennrich, 2019)."""

import torch
from torch import Tensor


class RmsNorm:
    """``x / rms(x) · w`` over the last axis."""

    __slots__ = ("_eps", "_shape", "_weight")

    def __init__(self, weight: Tensor, eps: float) -> None:
        self._weight = weight
        self._shape = (weight.shape[0],)
        self._eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return torch.rms_norm(x, self._shape, self._weight, self._eps)
