"""Norms and gates by compiled code, for rows that divide into vectors of the processor's or narrower ones."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from kindling_engine.jit import compiling
from kindling_engine.jit.rows import RowKernels, row_kernels

pytestmark = pytest.mark.skipif(row_kernels() is None, reason="no code is made for this processor")
FENCE = 7.5


@pytest.fixture(params=[(8,), (16, 8)], ids=["8", "16"])
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RowKernels:
    processor = replace(compiling.processor_here(), widths=request.param)
    monkeypatch.setattr(compiling, "processor_here", lambda: processor)
    return RowKernels()


@pytest.fixture
def fenced(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Results lie between others; gives whether these are as they were."""
    made: list[torch.Tensor] = []

    def empty_between(shape: tuple[int, int]) -> torch.Tensor:
        size = shape[0] * shape[1]
        made.append(torch.full((size + 128,), FENCE))
        return made[-1][64 : 64 + size].view(shape)

    monkeypatch.setattr(torch, "empty", empty_between)
    return lambda: (
        bool(made)
        and all(torch.equal(edge, torch.full((64,), FENCE)) for one in made for edge in (one[:64], one[-64:]))
    )


@pytest.mark.parametrize("size", [8, 16, 24, 40, 48, 576])
@pytest.mark.parametrize("rows", [1, 3])
def test_rows_are_normed_and_gated_and_nothing_beside_them_is_written(
    kernels: RowKernels, fenced: Callable[[], bool], size: int, rows: int
):
    random = torch.Generator().manual_seed(size)
    x, y = (torch.randn((rows, size), generator=random) for _ in range(2))
    weight = torch.randn(size, generator=random)
    assert kernels.fits(x, size)
    summed = x.clone()
    found = kernels.norm(x, weight, 1e-5), kernels.norm_of_sum(summed, y, weight, 1e-5)
    gated = kernels.gate(torch.cat((x, y), dim=1), "silu")
    assert fenced()
    assert torch.equal(summed, x + y)
    for one, source in zip(found, (x, x + y), strict=True):
        assert torch.allclose(one, torch.rms_norm(source, (size,), weight, 1e-5), rtol=1e-4, atol=1e-5)
    assert torch.allclose(gated, F.silu(x) * y, rtol=1e-4, atol=1e-5)


def test_rows_that_do_not_divide_are_left_to_torch(kernels: RowKernels):
    assert not kernels.fits(torch.zeros(2, 20), 20)
    with pytest.raises(ValueError, match="20"):
        kernels.norm(torch.zeros(2, 20), torch.ones(20), 1e-5)
