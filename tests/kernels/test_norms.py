"""RMS norms against their reference, in every configuration."""

import pytest
import torch

from kindling_engine.kernels import norms
from kindling_engine.kernels.tuning import error_of

TOLERANCE = {torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def _made(device, dtype, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(shape, generator=generator)).to(device=device, dtype=dtype)


@pytest.mark.parametrize("config", norms.CONFIGS, ids=str)
@pytest.mark.parametrize("hidden", [64, 100])
def test_norm(device, dtype, hidden, config):
    x, weight = _made(device, dtype, 3, hidden), _made(device, dtype, hidden, seed=1)
    ours = norms.rms_norm(x, weight, 1e-5, config)
    assert error_of(ours, norms.rms_norm_reference(x, weight, 1e-5)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("config", norms.CONFIGS, ids=str)
def test_norm_of_a_sum_that_is_kept(device, dtype, config):
    x, residual = _made(device, dtype, 3, 100), _made(device, dtype, 3, 100, seed=2)
    weight = _made(device, torch.float32, 100, seed=1)
    expected, total = norms.add_rms_norm_reference(x, residual, weight, 1e-5)
    ours, kept = norms.add_rms_norm(x, residual, weight, 1e-5, config)
    assert kept is residual and torch.equal(kept, total)
    assert error_of(ours, expected) <= TOLERANCE[dtype]


def test_rows_may_lie_apart(device, dtype):
    x = _made(device, dtype, 4, 128)[:, :100]
    weight = _made(device, dtype, 100, seed=1)
    assert (
        error_of(norms.rms_norm(x, weight, 1e-5), norms.rms_norm_reference(x, weight, 1e-5))
        <= TOLERANCE[dtype]
    )
