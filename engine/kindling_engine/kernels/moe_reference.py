"""What ``kernels.moe`` computes, in torch, token by token."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.kernels.activation import Kind, gate_reference

Biases = tuple[Tensor | None, Tensor | None]
"""Of the first product ``[experts, 2 · inner]`` and of the second ``[experts, hidden]``."""

NO_BIASES: Biases = (None, None)


@dataclass(frozen=True, slots=True)
class Routing:
    """``weights`` fp32 and ``experts`` int32, both ``[n, top_k]``, best first; ``counts`` int32 ``[experts]``."""

    weights: Tensor
    experts: Tensor
    counts: Tensor


def route_reference(scores: Tensor, top_k: int, *, normalised: bool) -> Routing:
    """For the router's ``scores [n, experts]``: softmax in fp32; ``normalised`` weights sum to one.

    Of equal scores the lower expert comes first, which torch's topk leaves open.
    """
    ranked = scores.softmax(dim=-1, dtype=torch.float32).sort(dim=-1, descending=True, stable=True)
    weights, chosen = ranked.values[:, :top_k], ranked.indices[:, :top_k]
    if normalised:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    counts = torch.bincount(chosen.flatten(), minlength=scores.shape[1])
    return Routing(weights, chosen.int(), counts.int())


def grouped_linear_reference(
    x: Tensor, weights: Tensor, experts: Tensor, bias: Tensor | None = None
) -> Tensor:
    """``W_e·x + b_e`` for each assignment: ``x [n, in]``, ``weights [experts, out, in]``, ``experts [n, k]``.

    ``bias [experts, out]``. Gives ``[n · k, out]``, fp32 within, rounded once.
    """
    # One at a time: all experts widened at once are more than a device has beside a model.
    made = [
        F.linear(row.float(), weights[expert].float(), None if bias is None else bias[expert].float())
        for row, chosen in zip(x, experts.tolist(), strict=True)
        for expert in chosen
    ]
    return torch.stack(made).to(x.dtype)


def sparse_mlp_reference(
    x: Tensor,
    scores: Tensor,
    gate_up: Tensor,
    down: Tensor,
    *,
    kind: Kind,
    top_k: int,
    normalised: bool,
    biases: Biases = NO_BIASES,
) -> Tensor:
    """The whole: ``x [n, hidden]``, ``gate_up [experts, 2 · inner, hidden]``, ``down [experts, hidden, inner]``."""
    routing = route_reference(scores, top_k, normalised=normalised)
    gated = gate_reference(grouped_linear_reference(x, gate_up, routing.experts, biases[0]), kind)
    made = grouped_linear_reference(gated, down, routing.experts.view(-1, 1), biases[1])
    weights = routing.weights.to(x.dtype).float()
    return (weights[:, :, None] * made.float().view(len(x), top_k, -1)).sum(dim=1).to(x.dtype)
