"""The gate of an MLP against its reference, in every configuration."""

import math

import pytest
import torch

from kindling_engine.kernels import activation
from kindling_engine.kernels.tuning import error_of
from kindling_engine.layers.mlp import activation_find
from kindling_engine.layers.mlp import gate as layer_gate

TOLERANCE = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
IN_LAYERS = {
    "silu": "silu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "clamped_swiglu": "clamped_swiglu",
}


def _made(device, dtype, rows=3, inner=100):
    generator = torch.Generator().manual_seed(0)
    return (4 * torch.randn((rows, 2 * inner), generator=generator)).to(device=device, dtype=dtype)


@pytest.mark.parametrize("config", activation.CONFIGS, ids=str)
@pytest.mark.parametrize("kind", IN_LAYERS)
def test_gate(device, dtype, kind, config):
    x = _made(device, dtype)
    ours = activation.gate(x, kind, config)
    assert error_of(ours, activation.gate_reference(x, kind)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("kind", IN_LAYERS)
def test_gate_is_that_of_the_layers(device, kind):
    x = _made(device, torch.float32)
    expected = layer_gate(x, activation_find(IN_LAYERS[kind]))
    assert error_of(activation.gate(x, kind), expected) <= TOLERANCE[torch.float32]


def test_rows_may_be_longer_than_a_block_and_lie_apart(device, dtype):
    x = _made(device, dtype, rows=2, inner=1500)
    wide = torch.full((2, 4000), torch.nan, dtype=dtype, device=device)
    wide[:, :3000] = x
    ours = activation.gate(wide[:, :3000], "silu")
    assert error_of(ours, activation.gate_reference(x, "silu")) <= TOLERANCE[dtype]


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_large_gates_stay_finite(device):
    x = torch.tensor([[-1e4, 1e4, 1.0, 1.0]], device=device)
    for kind in ("silu", "gelu", "gelu_tanh"):
        assert torch.equal(activation.gate(x, kind).cpu(), torch.tensor([[0.0, 1e4]]))


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
def test_clamped_gates_end_at_seven_and_hide_nothing_that_is_no_number(device):
    gates, others = [-1e4, 1e4, 1e4, torch.nan, 1.0], [1.0, 1e4, -1e4, 1.0, torch.nan]
    found = activation.gate(torch.tensor([gates + others], device=device), "clamped_swiglu")[0].cpu()
    seven = 7 / (1 + math.exp(-1.702 * 7))
    torch.testing.assert_close(found[:3], torch.tensor([0.0, 8 * seven, -6 * seven]))
    assert found[3:].isnan().all()
