"""A mixture of experts behind its router, by code of the device's own where there is some."""

from functools import cache
from typing import Protocol

from torch import Tensor

from kindling_engine.layers.row_kernels import ActivationName


class ExpertKernels(Protocol):
    """A row's result depends on that row alone, but for the sizes of products that a step's rows are cut into."""

    def fits(self, x: Tensor, gate_up: Tensor) -> bool:
        """Whether the kernels take rows ``x [n, hidden]`` for experts ``gate_up [experts, 2 · inner, hidden]``."""

    def mixture(
        self,
        x: Tensor,
        scores: Tensor,
        gate_up: Tensor,
        down: Tensor,
        *,
        activation: ActivationName,
        top_k: int,
        normalised: bool,
        biases: tuple[Tensor | None, Tensor | None],
    ) -> Tensor:
        """``Σ_e p_e·expert_e(x)`` over the ``top_k`` experts of highest p = softmax(scores ``[n, experts]``).

        ``down [experts, hidden, inner]``, ``biases`` ``[experts, 2 · inner]`` and ``[experts, hidden]``. May be
        captured: nothing waits for what the scores say.
        """


@cache
def expert_kernels_for(device_type: str) -> ExpertKernels | None:
    """The device's; None where torch does it."""
    if device_type != "cuda":
        return None
    try:
        from kindling_engine.layers.expert_kernels_cuda import CudaExpertKernels
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        return None
    return CudaExpertKernels()
