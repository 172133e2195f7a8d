"""Norms and gates of a decoder on a GPU, one launch each: by themselves they are a fifth of a step of one row."""

import torch
from torch import Tensor

from kindling_engine.kernels.activation import gate
from kindling_engine.kernels.norms import add_rms_norm, rms_norm
from kindling_engine.layers.row_kernels import ActivationName

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
LARGEST_ROW = 32768
"""A program holds a whole row in registers."""


class CudaRowKernels:
    """In fp32 from load to store, whatever the dtype of the rows."""

    activations: frozenset[ActivationName] = frozenset({"silu", "gelu", "gelu_tanh", "clamped_swiglu"})

    def fits(self, x: Tensor, size: int) -> bool:
        return x.dim() == 2 and x.stride(1) == 1 and x.dtype in _DTYPES and size <= LARGEST_ROW

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return rms_norm(x, weight, epsilon)

    def norm_of_sum(self, residual: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        return add_rms_norm(added, residual, weight, epsilon)[0]

    def gate(self, gate_up: Tensor, activation: ActivationName) -> Tensor:
        return gate(gate_up, activation)
