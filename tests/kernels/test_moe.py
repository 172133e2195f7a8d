"""Routing, sorting, the grouped product and the whole against their references and the layers."""

import pytest
import torch

from kindling_engine.kernels import moe
from kindling_engine.kernels.moe_reference import (
    grouped_linear_reference,
    route_reference,
    sparse_mlp_reference,
)
from kindling_engine.kernels.tuning import error_of
from kindling_engine.layers.linear import Linear
from kindling_engine.layers.mlp import ACTIVATIONS
from kindling_engine.layers.moe import SeparateExperts, SparseMlp

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
ROWS, EXPERTS, TOP_K, HIDDEN, INNER = 7, 4, 2, 40, 24


def _randn(device, dtype, *shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device=device, dtype=dtype)


@pytest.mark.parametrize("normalised", [False, True])
def test_routing(device, dtype, normalised):
    # Scores are apart from each other in every dtype, so that there is one order.
    scores = torch.stack([torch.randperm(EXPERTS) * 0.5 for _ in range(ROWS)]).to(device=device, dtype=dtype)
    ours = moe.route(scores, TOP_K, normalised=normalised)
    expected = route_reference(scores, TOP_K, normalised=normalised)
    assert torch.equal(ours.experts, expected.experts) and torch.equal(ours.counts, expected.counts)
    assert error_of(ours.weights, expected.weights) <= 1e-6


def test_of_equal_scores_the_lower_expert_comes_first(device):
    scores = torch.zeros((2, EXPERTS), device=device)
    for route in (moe.route, route_reference):
        assert route(scores, TOP_K, normalised=True).experts.tolist() == [[0, 1]] * 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scores_that_are_no_numbers_stay_within_the_experts(device):
    scores = torch.full((1, EXPERTS), torch.nan, device=device)
    assert moe.route(scores, TOP_K, normalised=True).experts.max() < EXPERTS


@pytest.mark.parametrize("block", [1, 4, 16])
def test_tiles_hold_every_assignment_once_in_order(device, block):
    scores = _randn(device, torch.float32, ROWS, EXPERTS)
    scores[:, 2] = -100.0  # an expert without tokens
    routing = moe.route(scores, TOP_K, normalised=True)
    tiles = moe.tiles_make(routing, block)
    total = ROWS * TOP_K
    flat = routing.experts.flatten()
    used = tiles.experts >= 0
    assert int(used.sum()) == sum(-(-count // block) for count in routing.counts.tolist())
    assert used.tolist() == sorted(used.tolist(), reverse=True)
    order = tiles.order.view(-1, block)[used]
    owners = tiles.experts[used][:, None].expand_as(order)
    real = order < total
    assert (order[~real] == total).all() and torch.equal(flat[order[real].long()], owners[real])
    assert torch.equal(order[real].long(), flat.argsort(stable=True))


@pytest.mark.parametrize("config", moe.CONFIGS, ids=str)
@pytest.mark.parametrize("depth", [HIDDEN, 128])
def test_grouped_linear(device, dtype, depth, config):
    routing = moe.route(_randn(device, torch.float32, ROWS, EXPERTS), TOP_K, normalised=True)
    tiles = moe.tiles_make(routing, config.tiles["BLOCK_M"])
    x, weights = _randn(device, dtype, ROWS, depth), _randn(device, dtype, EXPERTS, 70, depth, seed=1)
    ours = moe.grouped_linear(x, weights, tiles, top_k=TOP_K, config=config)
    assert error_of(ours, grouped_linear_reference(x, weights, routing.experts)) <= TOLERANCE[dtype]
    bias = _randn(device, dtype, EXPERTS, 70, seed=2)
    ours = moe.grouped_linear(x, weights, tiles, top_k=TOP_K, bias=bias, config=config)
    assert error_of(ours, grouped_linear_reference(x, weights, routing.experts, bias)) <= TOLERANCE[dtype]


@pytest.mark.parametrize(("normalised", "kind"), [(False, "silu"), (True, "silu"), (True, "clamped_swiglu")])
def test_the_whole(device, dtype, normalised, kind):
    x, scores = _randn(device, dtype, ROWS, HIDDEN), _randn(device, torch.float32, ROWS, EXPERTS, seed=1)
    gate_up = _randn(device, dtype, EXPERTS, 2 * INNER, HIDDEN, seed=2)
    down = _randn(device, dtype, EXPERTS, HIDDEN, INNER, seed=3)
    biases = _randn(device, dtype, EXPERTS, 2 * INNER, seed=4), _randn(device, dtype, EXPERTS, HIDDEN, seed=5)
    said = {"kind": kind, "top_k": TOP_K, "normalised": normalised}
    said |= {"biases": biases} if kind == "clamped_swiglu" else {}
    ours = moe.sparse_mlp(x, scores, gate_up, down, **said)
    assert error_of(ours, sparse_mlp_reference(x, scores, gate_up, down, **said)) <= TOLERANCE[dtype]


def test_the_whole_is_the_layers_own(device):
    x, router = (
        _randn(device, torch.float32, ROWS, HIDDEN),
        _randn(device, torch.float32, EXPERTS, HIDDEN, seed=1),
    )
    gate_up = _randn(device, torch.float32, EXPERTS, 2 * INNER, HIDDEN, seed=2)
    down = _randn(device, torch.float32, EXPERTS, HIDDEN, INNER, seed=3)
    experts = SeparateExperts([Linear(w) for w in gate_up], [Linear(w) for w in down], ACTIVATIONS["silu"])
    layer = SparseMlp(router, experts, top_k=TOP_K, normalised=True)
    ours = moe.sparse_mlp(x, x @ router.T, gate_up, down, kind="silu", top_k=TOP_K, normalised=True)
    assert error_of(ours, layer(x, None)) <= 1e-5


def test_a_token_does_not_depend_on_the_others(device):
    x, scores = (
        _randn(device, torch.float32, ROWS, HIDDEN),
        _randn(device, torch.float32, ROWS, EXPERTS, seed=1),
    )
    gate_up = _randn(device, torch.float32, EXPERTS, 2 * INNER, HIDDEN, seed=2)
    down = _randn(device, torch.float32, EXPERTS, HIDDEN, INNER, seed=3)
    said = {"kind": "silu", "top_k": TOP_K, "normalised": True, "config": moe.CONFIGS[0]}
    together = moe.sparse_mlp(x, scores, gate_up, down, **said)
    alone = moe.sparse_mlp(x[5:6], scores[5:6], gate_up, down, **said)
    assert error_of(together[5:6], alone) <= 1e-6
