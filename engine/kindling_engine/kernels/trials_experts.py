"""What configurations of a mixture of experts are compared on: the model's own weights, as they lie in memory."""

import torch
from torch import Tensor

from kindling_engine.kernels import moe
from kindling_engine.kernels.activation import Kind
from kindling_engine.kernels.moe_reference import NO_BIASES, Biases, sparse_mlp_reference
from kindling_engine.kernels.tune import Bout, Trial
from kindling_engine.kernels.tuning import Config

_MOST_CHECKED = 32
_TOLERANCE = {torch.float32: 1e-5}
_NARROW_TOLERANCE = 2e-2


def experts_trial(
    rows: int,
    gate_up: Tensor,
    down: Tensor,
    *,
    kind: Kind,
    top_k: int,
    normalised: bool,
    biases: Biases = NO_BIASES,
) -> Trial:
    """Routing, both products and the weighted sum for ``rows`` tokens, who choose their experts at random.

    ``gate_up [experts, 2 · inner, hidden]``, ``down [experts, hidden, inner]``: together they do not stay in a cache.
    """
    experts, _, hidden = gate_up.shape
    dtype, device = gate_up.dtype, gate_up.device

    def run(x: Tensor, scores: Tensor, config: Config | None) -> Tensor:
        return moe.sparse_mlp(
            x,
            scores,
            gate_up,
            down,
            kind=kind,
            top_k=top_k,
            normalised=normalised,
            biases=biases,
            config=config,
        )

    def make() -> Bout:
        generator = torch.Generator(device=device).manual_seed(0)
        x = torch.randn(rows, hidden, device=device, generator=generator).to(dtype)
        # In fp32, where hardly two are equal: of those the reference may take either.
        scores = torch.randn(rows, experts, device=device, generator=generator)
        few, few_scores = x[:_MOST_CHECKED], scores[:_MOST_CHECKED]
        expected = sparse_mlp_reference(
            few, few_scores, gate_up, down, kind=kind, top_k=top_k, normalised=normalised, biases=biases
        )
        return Bout(
            lambda config: run(few, few_scores, config),
            expected,
            ((lambda config: run(x, scores, config),),),
        )

    key = moe.experts_key(torch.empty(rows, hidden, dtype=dtype, device="meta"), gate_up, top_k)
    first = moe.config_default(rows * top_k, experts)
    configs = (first, *(config for config in moe.CONFIGS if config != first))
    return Trial(key, configs, make, _TOLERANCE.get(dtype, _NARROW_TOLERANCE))
