"""A mixture of experts (Shazeer et al., 2017): each token goes to a few of many gated MLPs.

Tokens are sorted by expert, so that an expert multiplies all of its tokens at once, and nothing walks over
tokens. Sums run over a token's experts in the order of their scores, whatever else is in the batch.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.linear import Projection
from kindling_engine.layers.mlp import Activation, gate
from kindling_engine.lora.batch import LoraBatch

Experts = Callable[[Tensor, Tensor], Tensor]
"""From tokens sorted by expert ``[n, hidden]`` and tokens per expert ``[experts]`` to outputs ``[n, hidden]``."""


class SparseMlp:
    """``Σ_e p_e·expert_e(x)`` over the ``top_k`` experts of the highest probability p = softmax(W·x).

    ``normalised`` makes the chosen probabilities sum to one.
    """

    __slots__ = ("_experts", "_normalised", "_num_experts", "_router", "_top_k")

    def __init__(
        self,
        router: Tensor,
        experts: Experts,
        *,
        top_k: int,
        normalised: bool,
        route: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        """``route`` makes x → W·x of W."""
        self._router = partial(F.linear, weight=router) if route is None else route(router)
        self._experts = experts
        self._num_experts = router.shape[0]
        self._top_k = top_k
        self._normalised = normalised

    def __call__(self, x: Tensor, lora: LoraBatch | None) -> Tensor:
        scores = self._router(x).softmax(dim=-1, dtype=torch.float32)
        weights, chosen = scores.topk(self._top_k, dim=-1)
        if self._normalised:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        counts = torch.zeros(self._num_experts, dtype=torch.int64, device=x.device)
        counts.scatter_add_(0, flat, torch.ones_like(flat))
        made = self._experts(x.index_select(0, order // self._top_k), counts)
        back = torch.empty_like(order)
        back[order] = torch.arange(order.shape[0], device=x.device)
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

    def __call__(self, x: Tensor, counts: Tensor) -> Tensor:
        output = torch.empty_like(x)
        start = 0
        for expert, count in enumerate(counts.tolist()):
            if count:
                span = slice(start, start + count)
                gated = gate(self._gate_up[expert](x[span]), self._activation)
                output[span] = self._down[expert](gated)
                start += count
        return output


class GroupedExperts:
    """One grouped GEMM for all experts, whose bounds stay on the device: for a GPU.

    ``gate_up [experts, 2 · inner, hidden]``, ``down [experts, hidden, inner]``.
    """

    __slots__ = ("_activation", "_down", "_gate_up")

    def __init__(self, gate_up: Tensor, down: Tensor, activation: Activation) -> None:
        self._gate_up = gate_up.transpose(1, 2)
        self._down = down.transpose(1, 2)
        self._activation = activation

    def __call__(self, x: Tensor, counts: Tensor) -> Tensor:
        ends = counts.cumsum(0).to(torch.int32)
        gated = gate(F.grouped_mm(x, self._gate_up, offs=ends), self._activation)
        return F.grouped_mm(gated, self._down, offs=ends)
