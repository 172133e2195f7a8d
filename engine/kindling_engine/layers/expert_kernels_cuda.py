"""A mixture of experts on a GPU: six launches whose sizes depend on the number of rows alone."""

import torch
from torch import Tensor

from kindling_engine.kernels.moe import sparse_mlp
from kindling_engine.layers.row_kernels import ActivationName

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_MOST_EXPERTS = 1024
"""A program holds the scores of all of them in registers."""


class CudaExpertKernels:
    """Products sum up in fp32, whatever the dtype of the rows."""

    def fits(self, x: Tensor, gate_up: Tensor) -> bool:
        return (
            x.dim() == 2
            and x.stride(1) == 1
            and x.dtype in _DTYPES
            and x.dtype == gate_up.dtype
            and gate_up.shape[0] <= _MOST_EXPERTS
        )

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
        return sparse_mlp(
            x, scores, gate_up, down, kind=activation, top_k=top_k, normalised=normalised, biases=biases
        )
