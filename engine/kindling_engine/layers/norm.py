"""Root-mean-square norm (Zhang and Sennrich, 2019)."""

import torch
from torch import Tensor

from kindling_engine.layers.row_kernels import row_kernels_for


class RmsNorm:
    """``x / rms(x) · w`` over the last axis."""

    __slots__ = ("_eps", "_kernels", "_shape", "_weight")

    def __init__(self, weight: Tensor, eps: float) -> None:
        self._weight = weight.contiguous()
        self._shape = (weight.shape[0],)
        self._eps = eps
        # A CPU has code for fp32 alone.
        own = weight.device.type != "cpu" or weight.dtype == torch.float32
        self._kernels = row_kernels_for(weight.device.type) if own else None

    @property
    def weight(self) -> Tensor:
        """What a state over its root mean square is multiplied by."""
        return self._weight

    @property
    def eps(self) -> float:
        return self._eps

    @property
    def compiled(self) -> bool:
        """Whether code of this processor norms its rows."""
        kernels, (size,) = self._kernels, self._shape
        return (
            kernels is not None
            and self._weight.device.type == "cpu"
            and kernels.fits(self._weight[None], size)
        )

    def __call__(self, x: Tensor) -> Tensor:
        kernels = self._kernels
        if kernels is not None and kernels.fits(x, self._shape[0]):
            return kernels.norm(x, self._weight, self._eps)
        return self._plain(x)

    def of_sum(self, residual: Tensor, added: Tensor) -> Tensor:
        """The norm of ``residual + added``, both ``[n, hidden]``; the sum stays in ``residual``."""
        kernels = self._kernels
        if kernels is not None and kernels.fits(residual, self._shape[0]) and residual.is_contiguous():
            return kernels.norm_of_sum(residual, added.contiguous(), self._weight, self._eps)
        return self._plain(residual.add_(added))

    def _plain(self, x: Tensor) -> Tensor:
        return torch.rms_norm(x, self._shape, self._weight, self._eps)


class CenteredRmsNorm(RmsNorm):
    """``x / rms(x) · (1 + w)``, in fp32 throughout: 1 + w has more digits than bf16 keeps of it."""

    __slots__ = ()

    def __init__(self, weight: Tensor, eps: float) -> None:
        super().__init__(weight.float() + 1.0, eps)

    def _plain(self, x: Tensor) -> Tensor:
        return super()._plain(x.float()).to(x.dtype)
