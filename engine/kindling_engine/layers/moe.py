"""A mixture of experts (Shazeer et al., 2017): each token goes to a few of many gated MLPs.

Where the device has kernels for it they do all behind the router. Elsewhere tokens are sorted by expert, so that an
expert multiplies all of its tokens at once, and nothing walks over tokens. Sums run over a token's experts in the
order of their scores, whatever else is in the batch.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.expert_kernels import expert_kernels_for
from kindling_engine.layers.linear import Projection
from kindling_engine.layers.mlp import Activation, activation_name, gate
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.experts import ExpertShare


class Experts(Protocol):
    """All experts of a layer, whatever multiplies them."""

    def __call__(self, x: Tensor, counts: Tensor, shares: Sequence[ExpertShare] = ()) -> Tensor:
        """From tokens sorted by expert ``[n, hidden]`` and tokens per expert ``[experts]`` to outputs ``[n, hidden]``.

        ``shares`` are what adapters add within.
        """

    def whole(self, x: Tensor, routed: Tensor, *, top_k: int, normalised: bool) -> Tensor | None:
        """All of a mixture, from the router's ``routed [n, experts]``; None where no kernels take it."""


def in_groups(device: torch.device) -> bool:
    """Whether a device multiplies all experts at once: where counts of their tokens would have to be waited for."""
    return device.type != "cpu"


class SparseMlp:
    """``Σ_e p_e·expert_e(x)`` over the ``top_k`` experts of the highest probability p = softmax(W·x + b).

    ``normalised`` makes the chosen probabilities sum to one. ``layer`` and ``site`` are where adapters add to experts
    and router.
    """

    __slots__ = ("_experts", "_layer", "_normalised", "_num_experts", "_router", "_site", "_top_k")

    def __init__(
        self,
        router: Tensor,
        experts: Experts,
        *,
        top_k: int,
        normalised: bool,
        layer: int = 0,
        site: int = 0,
        bias: Tensor | None = None,
        route: Callable[[Tensor, Tensor | None], Projection] | None = None,
    ) -> None:
        """``bias`` is the router's; ``route`` makes x → W·x + b of both."""
        self._router = partial(F.linear, weight=router, bias=bias) if route is None else route(router, bias)
        self._experts = experts
        self._num_experts = router.shape[0]
        self._top_k = top_k
        self._normalised = normalised
        self._layer = layer
        self._site = site

    @property
    def experts(self) -> Experts:
        return self._experts

    @property
    def top_k(self) -> int:
        return self._top_k

    @property
    def normalised(self) -> bool:
        return self._normalised

    def __call__(self, x: Tensor, lora: LoraBatch | None) -> Tensor:
        routed = self._router(x)
        if lora is not None:
            lora.add(routed, x, self._site)
        if lora is None or not lora.in_experts(self._layer):
            whole = self._experts.whole(x, routed, top_k=self._top_k, normalised=self._normalised)
            if whole is not None:
                return whole
        return self._sorted(x, routed, lora)

    def _sorted(self, x: Tensor, routed: Tensor, lora: LoraBatch | None) -> Tensor:
        """Step by step, for devices without kernels, and for adapters that change experts."""
        scores = routed.softmax(dim=-1, dtype=torch.float32)
        weights, chosen = scores.topk(self._top_k, dim=-1)
        if self._normalised:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        counts = torch.zeros(self._num_experts, dtype=torch.int64, device=x.device)
        counts.scatter_add_(0, flat, torch.ones_like(flat))
        back = torch.empty_like(order)
        back[order] = torch.arange(order.shape[0], device=x.device)
        shares: Sequence[ExpertShare] = ()
        if lora is not None:
            shares = lora.shares(self._layer, chosen, back.view_as(chosen))
        made = self._experts(x.index_select(0, order // self._top_k), counts, shares)
        made = made.index_select(0, back).view(x.shape[0], self._top_k, -1)
        return torch.bmm(weights.to(x.dtype)[:, None], made)[:, 0]


class SeparateExperts:
    """One GEMM per expert that has tokens: for a CPU, where the counts are at hand."""

    __slots__ = ("_activation", "_down", "_gate_up")

    def __init__(
        self, gate_up: Sequence[Projection], down: Sequence[Projection], activation: Activation
    ) -> None:
        self._gate_up = gate_up
        self._down = down
        self._activation = activation

    def __call__(self, x: Tensor, counts: Tensor, shares: Sequence[ExpertShare] = ()) -> Tensor:
        if shares:
            return self._adapted(x, counts.tolist(), shares)
        output = torch.empty_like(x)
        start = 0
        for expert, count in enumerate(counts.tolist()):
            if count:
                span = slice(start, start + count)
                gated = gate(self._gate_up[expert](x[span]), self._activation)
                output[span] = self._down[expert](gated)
                start += count
        return output

    def whole(self, x: Tensor, routed: Tensor, *, top_k: int, normalised: bool) -> Tensor | None:
        return None

    def _adapted(self, x: Tensor, counts: list[int], shares: Sequence[ExpertShare]) -> Tensor:
        """In two halves for all experts, as shares go over rows of many."""
        gate_up = _each(self._gate_up, x, counts)
        for share in shares:
            share.add(gate_up, x, share.weights.gate_up)
        gated = gate(gate_up, self._activation)
        output = _each(self._down, gated, counts)
        for share in shares:
            share.add(output, gated, share.weights.down)
        return output


class GroupedExperts:
    """One grouped GEMM for all experts, whose bounds stay on the device: for a GPU.

    ``gate_up [experts, 2 · inner, hidden]``, ``down [experts, hidden, inner]``; ``biases`` of both, by expert.
    """

    __slots__ = ("_kernels", "activation", "biases", "down", "gate_up")

    def __init__(
        self,
        gate_up: Tensor,
        down: Tensor,
        activation: Activation,
        *,
        biases: tuple[Tensor | None, Tensor | None] = (None, None),
        by_torch: bool = False,
    ) -> None:
        """``by_torch``: without kernels, whatever the device has."""
        self.gate_up = gate_up
        self.down = down
        self.biases = biases
        self.activation = activation
        self._kernels = None if by_torch else expert_kernels_for(gate_up.device.type)

    def whole(self, x: Tensor, routed: Tensor, *, top_k: int, normalised: bool) -> Tensor | None:
        name, kernels = activation_name(self.activation), self._kernels
        if name is None or kernels is None or not kernels.fits(x, self.gate_up):
            return None
        return kernels.mixture(
            x,
            routed,
            self.gate_up,
            self.down,
            activation=name,
            top_k=top_k,
            normalised=normalised,
            biases=self.biases,
        )

    def __call__(self, x: Tensor, counts: Tensor, shares: Sequence[ExpertShare] = ()) -> Tensor:
        ends = counts.cumsum(0).to(torch.int32)
        gate_up = F.grouped_mm(x, self.gate_up.transpose(1, 2), offs=ends)
        _add_bias(gate_up, self.biases[0], counts)
        for share in shares:
            share.add(gate_up, x, share.weights.gate_up)
        gated = gate(gate_up, self.activation)
        output = F.grouped_mm(gated, self.down.transpose(1, 2), offs=ends)
        _add_bias(output, self.biases[1], counts)
        for share in shares:
            share.add(output, gated, share.weights.down)
        return output


def _add_bias(output: Tensor, bias: Tensor | None, counts: Tensor) -> None:
    """Add each expert's bias ``[experts, out]`` to its rows of ``output [n, out]``, which are sorted by expert."""
    if bias is not None:
        output += bias.repeat_interleave(counts, 0, output_size=output.shape[0])


def _each(layers: Sequence[Projection], x: Tensor, counts: list[int]) -> Tensor:
    parts = zip(layers, x.split_with_sizes(counts), strict=True)
    return torch.cat([layer(rows) for layer, rows in parts if len(rows)])
