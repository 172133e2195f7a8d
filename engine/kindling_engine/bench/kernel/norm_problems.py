"""RMS norms at the hidden sizes of 0.6 B and 8 B models, for a decode batch and for a prompt."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels import norms

_EPS = 1e-6
_ROWS = (32, 256, 8192)
_HIDDEN = (1024, 4096)


@dataclass(frozen=True, slots=True)
class _Inputs:
    x: Tensor
    residual: Tensor
    weight: Tensor


def norm_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    rows: tuple[int, ...] = _ROWS,
    hidden: tuple[int, ...] = _HIDDEN,
) -> Iterator[Problem]:
    """The norm alone, and with the residual added."""
    for count in rows:
        for width in hidden:
            yield _problem(device, dtype, count, width, adds=False)
            yield _problem(device, dtype, count, width, adds=True)


def _problem(device: torch.device, dtype: torch.dtype, rows: int, hidden: int, *, adds: bool) -> Problem:
    def inputs(index: int) -> _Inputs:
        generator = torch.Generator(device=device).manual_seed(index)
        made = torch.randn(2, rows, hidden, device=device, generator=generator).to(dtype)
        return _Inputs(made[0], made[1], torch.ones(hidden, dtype=dtype, device=device))

    moved = rows * hidden * dtype.itemsize
    return Problem(
        op="add_rms_norm" if adds else "rms_norm",
        shape=f"{rows} × {hidden}",
        dtype=str(dtype).removeprefix("torch."),
        inputs=inputs,
        ours=lambda one, config: (
            norms.add_rms_norm(one.x, one.residual, one.weight, _EPS, config)[0]
            if adds
            else norms.rms_norm(one.x, one.weight, _EPS, config)
        ),
        reference=lambda one: (
            norms.add_rms_norm_reference(one.x, one.residual, one.weight, _EPS)[0]
            if adds
            else norms.rms_norm_reference(one.x, one.weight, _EPS)
        ),
        configs=norms.CONFIGS,
        tolerance=1e-5 if dtype == torch.float32 else 1.6e-2,
        bytes_read=moved * (2 if adds else 1),
        bytes_written=moved * (2 if adds else 1),
        peers={
            "torch": lambda one: (
                lambda: F.rms_norm(one.x.add_(one.residual) if adds else one.x, (hidden,), one.weight, _EPS)
            )
        },
    )
