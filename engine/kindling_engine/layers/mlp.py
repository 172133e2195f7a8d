"""The gated MLP (Shazeer, "GLU Variants Improve Transformer", 2020)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.linear import Projection
from kindling_engine.layers.row_kernels import ActivationName, row_kernels_for
from kindling_engine.lora.batch import LoraBatch

Activation = Callable[[Tensor], Tensor]

_GELU_TANH = partial(F.gelu, approximate="tanh")
ACTIVATIONS: dict[str, Activation] = {
    "silu": F.silu,
    "swish": F.silu,
    "gelu": F.gelu,
    "gelu_new": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "relu": F.relu,
}
"""By the names that config.json has for them."""

CLAMPED_SWIGLU = "clamped_swiglu"
SWISH_SLOPE, GATE_LIMIT = 1.702, 7.0


def _steep_swish(x: Tensor) -> Tensor:
    return x * (SWISH_SLOPE * x).sigmoid_()


@dataclass(frozen=True, slots=True)
class ClampedSwiglu:
    """The gate of GPT-OSS's experts: ``g·σ(1.702·g) ⊙ (u + 1)``, with g up to 7 and u within ±7."""

    swish: Activation = _steep_swish

    def __call__(self, x: Tensor) -> Tensor:
        return self.swish(x)

    def clamp(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """What is activated of g, and what is multiplied with it of u."""
        return left.clamp(max=GATE_LIMIT), right.clamp(-GATE_LIMIT, GATE_LIMIT).add_(1)


_NAMES_IN_KERNELS: dict[Activation, ActivationName] = {
    F.silu: "silu",
    F.gelu: "gelu",
    _GELU_TANH: "gelu_tanh",
    ClampedSwiglu(): "clamped_swiglu",
}


class GatedMlp:
    """``W_down·(act(W_gate·x) ⊙ W_up·x)`` for ``x [n, hidden]``; gate and up are one projection.

    ``sites`` are where adapters add to the two projections.
    """

    __slots__ = ("_activation", "_down", "_gate_up", "sites")

    def __init__(
        self, gate_up: Projection, down: Projection, activation: Activation, sites: tuple[int, int]
    ) -> None:
        self._gate_up = gate_up
        self._down = down
        self._activation = activation
        self.sites = sites

    @property
    def compiled_projections(self) -> tuple[Projection | None, Projection | None]:
        """Both, if a CPU has code for the gate between them."""
        kernels, name = row_kernels_for("cpu"), activation_name(self._activation)
        known = kernels is not None and name in kernels.activations
        return (self._gate_up, self._down) if known else (None, None)

    def __call__(self, x: Tensor, lora: LoraBatch | None) -> Tensor:
        gate_up = self._gate_up(x)
        if lora is not None:
            lora.add(gate_up, x, self.sites[0])
        gated = gate(gate_up, self._activation)
        output = self._down(gated)
        if lora is not None:
            lora.add(output, gated, self.sites[1])
        return output


def gate(gate_up: Tensor, activation: Activation) -> Tensor:
    """``act(g) ⊙ u`` for ``gate_up [n, 2 · inner]`` that holds g, then u."""
    name, kernels = activation_name(activation), row_kernels_for(gate_up.device.type)
    if name is None or kernels is None or not kernels.fits(gate_up, gate_up.shape[1] // 2):
        return _plain_gate(gate_up, activation)
    return kernels.gate(gate_up, name) if name in kernels.activations else _plain_gate(gate_up, activation)


def activation_find(name: str) -> Activation:
    """That of a decoder's configuration."""
    return ClampedSwiglu() if name == CLAMPED_SWIGLU else ACTIVATIONS[name]


def activation_name(activation: Activation) -> ActivationName | None:
    """What kernels call an activation; None for one that they do not have."""
    return _NAMES_IN_KERNELS.get(activation)


def _plain_gate(gate_up: Tensor, activation: Activation) -> Tensor:
    left, right = gate_up.chunk(2, dim=-1)
    if isinstance(activation, ClampedSwiglu):
        left, right = activation.clamp(left, right)
    return activation(left).mul_(right)
