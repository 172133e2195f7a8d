"""Root-mean-square norm (Zhang and Sennrich, 2019)."""

import torch
from torch import Tensor

from kindling_engine.jit.rows import row_kernels


class RmsNorm:
    """``x / rms(x) · w`` over the last axis."""

    __slots__ = ("_compiled", "_eps", "_shape", "_weight")

    def __init__(self, weight: Tensor, eps: float) -> None:
        self._weight = weight
        self._shape = (weight.shape[0],)
        self._eps = eps
        plain = weight.device.type == "cpu" and weight.dtype == torch.float32
        self._compiled = row_kernels() if plain and weight.is_contiguous() else None

    @property
    def weight(self) -> Tensor:
        """What a state over its root mean square is multiplied by."""
        return self._weight

    @property
    def eps(self) -> float:
        return self._eps

    def __call__(self, x: Tensor) -> Tensor:
        compiled = self._compiled
        if compiled is not None and compiled.fits(x, self._shape[0]):
            return compiled.norm(x, self._weight, self._eps)
        return torch.rms_norm(x, self._shape, self._weight, self._eps)


class CenteredRmsNorm(RmsNorm):
    """``x / rms(x) · (1 + w)``, in fp32 throughout: 1 + w has more digits than bf16 keeps of it."""

    __slots__ = ()

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__(weight.float() + 1.0, eps)

    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x.float()).to(x.dtype)
