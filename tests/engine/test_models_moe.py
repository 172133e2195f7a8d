"""The mixture of experts: both ways to run it, against the plain sum over experts, with adapters and without."""

import pytest
import torch
import torch.nn.functional as F

from kindling_engine.layers.linear import Linear
from kindling_engine.layers.mlp import ClampedSwiglu
from kindling_engine.layers.moe import GroupedExperts, SeparateExperts, SparseMlp
from kindling_engine.lora.batch import AdapterWeights, Expand, LoraBatch, LoraGroup, SiteWeights
from kindling_engine.lora.experts import ExpertPair, ExpertWeights, grouped_products, separate_products

EXPERTS, HIDDEN, INNER = 7, 24, 16


@pytest.fixture
def weights() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (
        torch.randn(EXPERTS, HIDDEN),
        torch.randn(EXPERTS, 2 * INNER, HIDDEN),
        torch.randn(EXPERTS, HIDDEN, INNER),
    )


def _plain(x: torch.Tensor, weights, top_k: int, *, normalised: bool) -> torch.Tensor:
    """Token by token and expert by expert."""
    router, gate_up, down = weights
    rows = []
    for token in x:
        scores = (router @ token).softmax(dim=-1)
        chosen = scores.topk(top_k)
        shares = chosen.values / chosen.values.sum() if normalised else chosen.values
        made = torch.zeros(HIDDEN)
        for share, expert in zip(shares, chosen.indices, strict=True):
            left, right = (gate_up[expert] @ token).chunk(2)
            made += share * (down[expert] @ (F.silu(left) * right))
        rows.append(made)
    return torch.stack(rows)


def _experts(kind: str, weights):
    _, gate_up, down = weights
    if kind == "grouped":
        return GroupedExperts(gate_up, down, F.silu)
    return SeparateExperts([Linear(w) for w in gate_up], [Linear(w) for w in down], F.silu)


@pytest.mark.parametrize("kind", ["separate", "grouped"])
@pytest.mark.parametrize(("top_k", "normalised"), [(1, False), (2, True), (3, False), (EXPERTS, True)])
@pytest.mark.parametrize("tokens", [1, 2, 33])
def test_every_token_gets_its_experts(weights, kind, top_k, normalised, tokens):
    x = torch.randn(tokens, HIDDEN)
    mlp = SparseMlp(weights[0], _experts(kind, weights), top_k=top_k, normalised=normalised)
    expected = _plain(x, weights, top_k, normalised=normalised)
    torch.testing.assert_close(mlp(x, None), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["separate", "grouped"])
def test_an_expert_without_tokens_is_left_out(weights, kind):
    """All tokens alike: every expert but the chosen two has none."""
    x = torch.randn(1, HIDDEN).expand(9, HIDDEN).contiguous()
    mlp = SparseMlp(weights[0], _experts(kind, weights), top_k=2, normalised=True)
    expected = _plain(x[:1], weights, 2, normalised=True).expand(9, HIDDEN)
    torch.testing.assert_close(mlp(x, None), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["separate", "grouped"])
def test_biases_and_the_clamped_gate_are_those_of_gpt_oss(kind):
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP

    torch.manual_seed(0)
    sizes = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_local_experts": EXPERTS}
    module = GptOssMLP(GptOssConfig(**sizes, num_experts_per_tok=3, experts_implementation="eager")).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    both, down = module.experts.gate_up_proj.data, module.experts.down_proj.data.transpose(1, 2).contiguous()
    gate_up = torch.cat((both[..., 0::2], both[..., 1::2]), dim=-1).transpose(1, 2).contiguous()
    bias, down_bias = module.experts.gate_up_proj_bias.data, module.experts.down_proj_bias.data
    biases = torch.cat((bias[:, 0::2], bias[:, 1::2]), dim=1), down_bias
    if kind == "grouped":
        experts = GroupedExperts(gate_up, down, ClampedSwiglu(), biases=biases)
    else:
        layers = [
            [Linear(weight, bias) for weight, bias in zip(*pair, strict=True)]
            for pair in ((gate_up, biases[0]), (down, biases[1]))
        ]
        experts = SeparateExperts(*layers, ClampedSwiglu())
    router = module.router
    mlp = SparseMlp(router.weight.data, experts, top_k=3, normalised=True, bias=router.bias.data)
    # Far beyond where gates are clamped, and within.
    x = torch.linspace(0.1, 5, 40)[:, None] * torch.randn(40, HIDDEN)
    products = torch.einsum("ni,eio->neo", x, both)
    assert (products.abs() > 7).any() and (products.abs() < 7).any()
    with torch.inference_mode():
        expected = module(x[None])[0][0]
    torch.testing.assert_close(mlp(x, None), expected, atol=1e-4, rtol=1e-4)


def test_an_expert_multiplies_all_of_its_tokens_at_once(weights):
    calls: list[int] = []

    class Counted(Linear):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.shape[0])
            return super().__call__(x)

    _, gate_up, down = weights
    experts = SeparateExperts([Counted(w) for w in gate_up], [Linear(w) for w in down], F.silu)
    SparseMlp(weights[0], experts, top_k=2, normalised=True)(torch.randn(200, HIDDEN), None)
    assert len(calls) <= EXPERTS and sum(calls) == 400


def _adapter(rank: int, *, gain: bool) -> AdapterWeights:
    pairs = [
        ExpertPair(
            torch.randn(EXPERTS, rank, width) / width,
            torch.randn(EXPERTS, out, rank),
            1 + 0.3 * torch.randn(EXPERTS, out) if gain else None,
        )
        for width, out in ((HIDDEN, 2 * INNER), (INNER, HIDDEN))
    ]
    site = SiteWeights(
        torch.randn(rank, HIDDEN), (Expand(0, rank, 0, EXPERTS, 0.1 * torch.randn(rank, EXPERTS)),)
    )
    return AdapterWeights((site,), 0, rank, experts={3: ExpertWeights(EXPERTS, *pairs)})


def _merged(weights, adapter: AdapterWeights):
    """Weights of a model of its own that has the adapter in it."""
    site, experts = adapter.sites[0], adapter.experts[3]
    assert site is not None and experts.gate_up is not None and experts.down is not None
    merged = [weights[0] + (site.shrink.T @ site.expands[0].weight).T]
    for weight, pair in zip(weights[1:], (experts.gate_up, experts.down), strict=True):
        kept = weight if pair.gain is None else pair.gain[:, :, None] * weight
        merged.append(kept + pair.expand @ pair.shrink)
    return merged


@pytest.mark.parametrize("kind", ["separate", "grouped"])
@pytest.mark.parametrize("gain", [False, True])
def test_each_token_gets_its_adapters_part_of_its_experts(weights, kind, gain):
    mlp = SparseMlp(weights[0], _experts(kind, weights), top_k=2, normalised=True, layer=3, site=0)
    adapters = [_adapter(8, gain=gain), _adapter(16, gain=gain), AdapterWeights((None,), 0, 1)]
    spans = [((2, 3), (20, 25)), ((3, 9),), ((12, 15),)]
    x = torch.randn(30, HIDDEN)
    batch = LoraBatch(tuple(LoraGroup(*one) for one in zip(spans, adapters, strict=True)))
    expected = _plain(x, weights, 2, normalised=True)
    for adapter, runs in zip(adapters[:2], spans, strict=False):
        for start, stop in runs:
            expected[start:stop] = _plain(x[start:stop], _merged(weights, adapter), 2, normalised=True)
    torch.testing.assert_close(mlp(x, batch), expected, atol=2e-4, rtol=2e-4)


def test_products_in_groups_are_those_expert_by_expert():
    x, weights = torch.randn(40, 24), torch.randn(EXPERTS, 16, 24)
    counts = torch.tensor([5, 0, 12, 0, 3, 20, 0])
    separate = separate_products(x, weights, counts, lambda weight: Linear(weight))
    torch.testing.assert_close(grouped_products(x, weights, counts), separate, atol=1e-4, rtol=1e-4)
