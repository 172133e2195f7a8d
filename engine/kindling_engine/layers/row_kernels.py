"""What a decoder does to rows between its products, by code of the device's own where there is some."""

from functools import cache
from typing import Literal, Protocol

from torch import Tensor

ActivationName = Literal["silu", "gelu", "gelu_tanh", "clamped_swiglu"]


class RowKernels(Protocol):
    """A row's result depends on that row alone."""

    @property
    def activations(self) -> frozenset[ActivationName]:
        """Those that ``gate`` has."""

    def fits(self, x: Tensor, size: int) -> bool:
        """Whether the kernels take rows ``x [n, …]`` that hold one or more of ``size``."""

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """``x / √(mean(x²) + ε) · w`` over the last axis of ``x [n, size]``."""

    def norm_of_sum(self, residual: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """The norm of ``residual + added``, both ``[n, size]`` without gaps; the sum stays in ``residual``."""

    def gate(self, gate_up: Tensor, activation: ActivationName) -> Tensor:
        """``act(g) ⊙ u`` for ``gate_up [n, 2 · inner]`` that holds g, then u, as ``layers.mlp.gate`` does it."""


@cache
def row_kernels_for(device_type: str) -> RowKernels | None:
    """The device's; None where torch does it."""
    if device_type == "cpu":
        from kindling_engine.jit.rows import row_kernels

        return row_kernels()
    if device_type != "cuda":
        return None
    try:
        from kindling_engine.layers.row_kernels_cuda import CudaRowKernels
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        return None
    return CudaRowKernels()
