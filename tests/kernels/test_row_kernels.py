"""Norms and gates as a decoder on a GPU calls them, against torch's."""

import pytest
import torch
import torch.nn.functional as F

from kindling_engine.kernels.tuning import error_of
from kindling_engine.layers import mlp, norm
from kindling_engine.layers.mlp import ACTIVATIONS, gate
from kindling_engine.layers.norm import CenteredRmsNorm, RmsNorm
from kindling_engine.layers.row_kernels_cuda import CudaRowKernels

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


@pytest.fixture
def own(monkeypatch):
    """The kernels in the place of torch, wherever the tensors are."""
    for module in (norm, mlp):
        monkeypatch.setattr(module, "row_kernels_for", lambda device_type: CudaRowKernels())
    return CudaRowKernels()


def _made(device, dtype, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(shape, generator=generator)).to(device=device, dtype=dtype)


@pytest.mark.parametrize("kind", [RmsNorm, CenteredRmsNorm])
def test_the_sum_stays_and_its_norm_comes_back(own, device, dtype, kind):
    weight = _made(device, dtype, 96, seed=1)
    residual, added = _made(device, dtype, 3, 96, seed=2), _made(device, dtype, 96, 3, seed=3).t()
    total = residual + added
    one = kind(weight, 1e-5)
    one._kernels = own  # a norm on a CPU takes none for narrow dtypes
    factor = one.weight.float()
    expected = F.rms_norm(total.float(), (96,), factor, 1e-5)
    assert error_of(one.of_sum(residual, added), expected) <= TOLERANCE[dtype]
    assert torch.equal(residual, total)
    assert error_of(one(total), expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_gates(own, device, dtype, name):
    x = _made(device, dtype, 3, 64)
    left, right = x.float().chunk(2, dim=-1)
    found = gate(x, ACTIVATIONS[name])
    assert found.dtype == dtype
    assert error_of(found, ACTIVATIONS[name](left) * right) <= TOLERANCE[dtype]


def test_what_is_no_row_goes_through_torch(own, device):
    heads = _made(device, torch.float32, 3, 4, 32)
    weight = _made(device, torch.float32, 32, seed=1)
    assert torch.equal(RmsNorm(weight, 1e-5)(heads), torch.rms_norm(heads, (32,), weight, 1e-5))
