"""Rows in e4m3 and linear layers of them against their references."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kindling_engine.kernels import fp8_linear
from kindling_engine.kernels.tuning import error_of


def _randn(device, dtype, *shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device=device, dtype=dtype)


@pytest.mark.parametrize("config", fp8_linear.CONFIGS, ids=str)
@pytest.mark.parametrize("width", [64, 100])
def test_rows_are_quantised(device, dtype, width, config):
    x = _randn(device, dtype, 5, width) * torch.tensor([[1.0], [50.0], [1e-3], [0.0], [7.0]], device=device)
    x = x.to(dtype)
    ours, scale = fp8_linear.quantise_rows(x, config)
    expected, expected_scale = fp8_linear.quantise_rows_reference(x)
    assert torch.equal(scale, expected_scale)
    assert torch.equal(ours.float(), expected.float())
    # Half a step of three digits behind the first, relative to the number; near zero, half of 2⁻⁹ of the scale.
    error = (ours.float() * scale - x.float()).abs()
    assert (error <= (x.float().abs() / 16).maximum(scale * 2**-10) * 1.0001).all()


def test_the_reference_divides_by_tensors(device):
    """By a number a GPU multiplies with its reciprocal, whose bits are others."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func in {torch.ops.aten.div.Tensor, torch.ops.aten.div.Scalar}:
                divided.append(args[1].shape)
            return func(*args, **(kwargs or {}))

    divided: list[torch.Size] = []
    x = _randn(device, torch.float32, 3, 64)
    with Watch():
        fp8_linear.quantise_rows_reference(x)
    assert divided == [(3, 1), (3, 1)]


def test_rows_may_lie_apart(device, dtype):
    x = _randn(device, dtype, 4, 128)[:, :100]
    ours, _ = fp8_linear.quantise_rows(x)
    expected, _ = fp8_linear.quantise_rows_reference(x.contiguous())
    assert torch.equal(ours.float(), expected.float())


def test_reference_is_near_the_exact_product(device):
    x, weight, bias = (
        _randn(device, torch.float32, *s, seed=i) for i, s in enumerate([(9, 256), (48, 256), (48,)])
    )
    quantised, scale = fp8_linear.quantise_rows_reference(weight)
    ours = fp8_linear.fp8_linear_reference(x, quantised, scale, bias)
    exact = x @ weight.T + bias
    # Errors of at most 1/16 a factor that average out: some 3 % of the typical output.
    assert 0.005 < ((ours - exact).std() / exact.std()).item() < 0.05


def test_devices_that_cannot_are_refused():
    with pytest.raises(ValueError, match=r"9\.0"):
        fp8_linear.Fp8Linear(torch.zeros(32, 32))


@pytest.mark.skipif(
    not torch.cuda.is_available() or not fp8_linear.fp8_supported(torch.device("cuda")), reason="needs Hopper"
)
@pytest.mark.parametrize("rows", [1, 3, 64, 200])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear(rows, has_bias):
    device = torch.device("cuda")
    x, weight = _randn(device, torch.bfloat16, rows, 512), _randn(device, torch.bfloat16, 272, 512, seed=1)
    bias = _randn(device, torch.bfloat16, 272, seed=2) if has_bias else None
    quantised, scale = fp8_linear.quantise_rows_reference(weight)
    ours = fp8_linear.Fp8Linear(weight, bias)(x)
    assert ours.dtype == torch.bfloat16
    assert error_of(ours, fp8_linear.fp8_linear_reference(x, quantised, scale, bias)) <= 1e-2


@pytest.mark.skipif(
    not torch.cuda.is_available() or not fp8_linear.fp8_supported(torch.device("cuda")), reason="needs Hopper"
)
def test_sizes_that_the_product_cannot_take_are_refused():
    with pytest.raises(ValueError, match="multiples of 16"):
        fp8_linear.Fp8Linear(torch.zeros((40, 30), device="cuda"))
