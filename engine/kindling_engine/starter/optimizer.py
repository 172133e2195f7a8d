"""Muon for the layers' matrices and AdamW for the rest, in fp32.

Source: K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). PyTorch's own
version works in bf16, which many CPUs emulate at a hundredth of the speed.
"""

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


class Muon:
    """Momentum whose update is made orthogonal; matrices of one shape are worked on together."""

    def __init__(
        self, matrices: list[nn.Parameter], *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._groups: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            self._groups[tuple(matrix.shape)].append(matrix)
        self._buffers = {shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Apply one update of size `rate` from the gradients in place."""
        for shape, group in self._groups.items():
            gradients = torch.stack([one.grad for one in group if one.grad is not None])
            buffer = self._buffers[shape]
            buffer.lerp_(gradients, 1 - self._momentum)
            updates = orthogonalize(torch.lerp(gradients, buffer, self._momentum))
            scale = rate * math.sqrt(max(1.0, shape[0] / shape[1]))
            for parameter, update in zip(group, updates, strict=True):
                parameter.mul_(1 - rate * self._weight_decay)
                parameter.add_(update, alpha=-scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix in [n, rows, columns] near 1 by Newton-Schulz steps."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
