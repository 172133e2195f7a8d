"""The mixture as a decoder on a GPU runs it, beside torch's way and transformers' own module."""

import pytest
import torch
import torch.nn.functional as F

from kindling_engine.kernels.tuning import error_of
from kindling_engine.layers import moe
from kindling_engine.layers.expert_kernels_cuda import CudaExpertKernels
from kindling_engine.layers.linear import Linear
from kindling_engine.layers.moe import GroupedExperts, SeparateExperts, SparseMlp
from kindling_engine.lora.batch import AdapterWeights, Expand, LoraBatch, LoraGroup, SiteWeights
from kindling_engine.lora.experts import ExpertPair, ExpertWeights

EXPERTS, TOP_K, HIDDEN, INNER = 6, 2, 40, 24
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2.5e-2}
ROUTINGS = {"mixed": range(EXPERTS), "empty experts": (1, 4, 5), "two for all": (0, 3)}
"""Experts that tokens may go to."""


@pytest.fixture
def own(monkeypatch):
    """The kernels in the place of torch, wherever the tensors are; counts how often they are called."""
    calls: list[int] = []

    class Counted(CudaExpertKernels):
        def mixture(self, x, *others, **said):
            calls.append(x.shape[0])
            return super().mixture(x, *others, **said)

    monkeypatch.setattr(moe, "expert_kernels_for", lambda device_type: Counted())
    return calls


def _products_dtype(device) -> torch.dtype:
    """What torch's grouped products are made for there."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def _made(device, dtype, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)


def _weights(device, dtype):
    router = _made(device, dtype, EXPERTS, HIDDEN)
    gate_up = HIDDEN**-0.5 * _made(device, dtype, EXPERTS, 2 * INNER, HIDDEN, seed=1)
    return router, gate_up, INNER**-0.5 * _made(device, dtype, EXPERTS, HIDDEN, INNER, seed=2)


def _x(device, dtype, rows: int, router, routed) -> torch.Tensor:
    """Tokens that none but ``routed`` experts score high with: the other rows of the router point away from them."""
    x = _made(device, dtype, rows, HIDDEN, seed=3)
    x[:, 0] = 4.0
    away = [expert for expert in range(EXPERTS) if expert not in routed]
    router[away, 0] = -100.0
    return x


def _by_torch(x, router, gate_up, down, *, normalised=True) -> torch.Tensor:
    """In fp32, expert by expert."""
    wide = (one.float() for one in (gate_up, down))
    gate_up, down = ([Linear(w) for w in one] for one in wide)
    mlp = SparseMlp(
        router.float(), SeparateExperts(gate_up, down, F.silu), top_k=TOP_K, normalised=normalised
    )
    return mlp(x.float(), None)


@pytest.mark.parametrize("routing", ROUTINGS)
@pytest.mark.parametrize("rows", [1, 19])
@pytest.mark.parametrize("normalised", [True, False])
def test_as_torch_does_it(own, device, dtype, routing, rows, normalised):
    weights = _weights(device, dtype)
    x = _x(device, dtype, rows, weights[0], ROUTINGS[routing])
    experts = GroupedExperts(*weights[1:], F.silu)
    # Scores in fp32, so that rounding sends no token to another expert.
    router = weights[0].float()
    mlp = SparseMlp(
        weights[0],
        experts,
        top_k=TOP_K,
        normalised=normalised,
        route=lambda weight, bias: lambda rows: F.linear(rows.float(), router),
    )
    expected = _by_torch(x, *weights, normalised=normalised)
    assert error_of(mlp(x, None), expected) <= TOLERANCE[dtype]
    assert own == [rows]


def test_as_transformers_does_it(own, device):
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        hidden_size=HIDDEN,
        moe_intermediate_size=INNER,
        num_experts=EXPERTS,
        num_experts_per_tok=TOP_K,
        norm_topk_prob=True,
        experts_implementation="eager",
    )
    block = Qwen3MoeSparseMoeBlock(config).eval().to(device)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    experts = GroupedExperts(block.experts.gate_up_proj.data, block.experts.down_proj.data, F.silu)
    mlp = SparseMlp(block.gate.weight.data, experts, top_k=TOP_K, normalised=True)
    for rows in (1, 23):
        x = _made(device, torch.float32, rows, HIDDEN, seed=rows)
        with torch.inference_mode():
            found = block(x[None])
        expected = found[0] if isinstance(found, tuple) else found
        assert error_of(mlp(x, None), expected.view(rows, HIDDEN)) <= TOLERANCE[torch.float32]
    assert own == [1, 23]


def test_adapters_of_the_router_go_with_the_kernels_and_those_of_experts_without(own, device):
    """On tokens of their own, with the sums that torch makes of both."""
    dtype = _products_dtype(device)
    router, gate_up, down = _weights(device, dtype)
    x = _made(device, dtype, 9, HIDDEN, seed=3)
    expand = Expand(0, 4, 0, EXPERTS, 0.3 * _made(device, dtype, 4, EXPERTS, seed=4))
    site = SiteWeights(_made(device, dtype, 4, HIDDEN, seed=5), (expand,))
    on_router = AdapterWeights((site,), 0, 4)
    pair = ExpertPair(
        0.2 * _made(device, dtype, EXPERTS, 8, HIDDEN, seed=6),
        0.2 * _made(device, dtype, EXPERTS, 2 * INNER, 8, seed=7),
    )
    on_experts = AdapterWeights((site,), 0, 8, experts={2: ExpertWeights(EXPERTS, pair, None)})
    separate = SeparateExperts([Linear(w) for w in gate_up], [Linear(w) for w in down], F.silu)
    said = {"top_k": TOP_K, "normalised": True, "layer": 2}
    by_torch = SparseMlp(router, separate, **said)
    by_kernels = SparseMlp(router, GroupedExperts(gate_up, down, F.silu), **said)
    base = by_torch(x, None)
    for adapter, calls in ((on_router, [9]), (on_experts, [9])):
        batch = LoraBatch((LoraGroup(((3, 7),), adapter),))
        expected = by_torch(x, batch)
        assert not torch.allclose(expected[3:7], base[3:7], atol=1e-3)
        assert error_of(by_kernels(x, batch), expected) <= 2 * TOLERANCE[dtype]
        assert own == calls


@pytest.mark.parametrize(("activation", "asked"), [(F.relu, False), (F.silu, True)])
def test_without_a_kernel_and_on_request_torch_does_it(own, device, activation, asked):
    dtype = _products_dtype(device)
    router, gate_up, down = _weights(device, dtype)
    x = _made(device, dtype, 5, HIDDEN, seed=3)
    separate = SeparateExperts([Linear(w) for w in gate_up], [Linear(w) for w in down], activation)
    grouped = GroupedExperts(gate_up, down, activation, by_torch=asked)
    expected = SparseMlp(router, separate, top_k=TOP_K, normalised=True)(x, None)
    found = SparseMlp(router, grouped, top_k=TOP_K, normalised=True)(x, None)
    assert error_of(found, expected) <= 2 * TOLERANCE[dtype] and own == []


def test_a_captured_graph_follows_the_routing(own, device):
    if device.type != "cuda":
        pytest.skip("only a GPU captures graphs")
    weights = _weights(device, torch.float16)
    mlp = SparseMlp(weights[0], GroupedExperts(*weights[1:], F.silu), top_k=TOP_K, normalised=True)
    x = _made(device, torch.float16, 8, HIDDEN)
    mlp(x, None)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = mlp(x, None)
    for seed in range(3, 6):
        x.copy_(_made(device, torch.float16, 8, HIDDEN, seed=seed))
        graph.replay()
        assert error_of(output, mlp(x, None)) <= TOLERANCE[torch.float16]
