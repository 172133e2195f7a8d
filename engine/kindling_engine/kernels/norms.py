"""Root-mean-square norm (Zhang and Sennrich, 2019), alone or with the residual added on the way."""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.tuning import TUNER, Config, Key, size_class

CONFIGS = tuple(Config(num_warps=warps, num_stages=1) for warps in (4, 8, 16))


def rms_norm_reference(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """``x / √(mean(x²) + eps) · w`` over the last axis of ``x [n, hidden]``, in fp32, rounded once."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def add_rms_norm_reference(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm of ``x + residual``, and the sum itself, rounded to their dtype first."""
    total = x + residual
    return rms_norm_reference(total, weight, eps), total


def rms_norm(x: Tensor, weight: Tensor, eps: float, config: Config | None = None) -> Tensor:
    """As ``rms_norm_reference``; ``weight`` fp32 or of x's dtype, rows of ``x`` contiguous."""
    output = torch.empty_like(x)
    _launch(x, x, output, x, weight, eps, adds=False, config=config)
    return output


def add_rms_norm(
    x: Tensor, residual: Tensor, weight: Tensor, eps: float, config: Config | None = None
) -> tuple[Tensor, Tensor]:
    """As ``add_rms_norm_reference``; writes the sum over ``residual``."""
    output = torch.empty_like(x)
    _launch(x, residual, output, residual, weight, eps, adds=True, config=config)
    return output, residual


def _launch(
    x: Tensor,
    residual: Tensor,
    output: Tensor,
    total: Tensor,
    weight: Tensor,
    eps: float,
    *,
    adds: bool,
    config: Config | None,
) -> None:
    rows, hidden = x.shape
    chosen = config or TUNER.chosen(norm_key(x, weight, adds=adds), CONFIGS)
    _rms_norm_kernel[(rows,)](
        x,
        residual,
        output,
        total,
        weight,
        eps,
        x.stride(0),
        residual.stride(0),
        HIDDEN=hidden,
        BLOCK=triton.next_power_of_2(hidden),
        ADDS=adds,
        **chosen.arguments(),
    )


def norm_key(x: Tensor, weight: Tensor, *, adds: bool) -> Key:
    """What a choice of configuration depends on."""
    rows, hidden = x.shape
    return ("rms_norm", hidden, x.dtype, weight.dtype, adds, size_class(rows))


@triton.jit
def _rms_norm_kernel(
    x,
    residual,
    output,
    total,
    weight,
    eps,
    x_stride,
    residual_stride,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
    ADDS: tl.constexpr,
):
    """One row per program, held in registers."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < HIDDEN
    # Before the sum, whose barriers no load moves across: read behind it, the weights would be waited for once more.
    factor = tl.load(weight + columns, mask=inside, other=0.0)
    value = tl.load(x + row * x_stride + columns, mask=inside, other=0.0)
    if ADDS:
        value += tl.load(residual + row * residual_stride + columns, mask=inside, other=0.0)
        tl.store(total + row * residual_stride + columns, value, mask=inside)
    wide = value.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide) / HIDDEN + eps)
    normed = wide * scale * factor.to(tl.float32)
    tl.store(output + row * HIDDEN + columns, normed.to(output.dtype.element_ty), mask=inside)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: hidden sizes of 8 B and 0.6 B models; weights of centred norms are fp32."""
    narrow = torch.bfloat16
    for hidden, weight, configs in (
        (1024, narrow, CONFIGS),
        (4096, narrow, CONFIGS),
        (4096, torch.float32, CONFIGS[:1]),
    ):
        for adds in (False, True):
            for config in configs:
                yield Case(
                    f"rms_norm {hidden}{' add' if adds else ''}{'' if weight is narrow else ' centred'}",
                    _rms_norm_kernel,
                    (*(narrow,) * 4, weight, 1e-6, hidden, hidden),
                    {"HIDDEN": hidden, "BLOCK": triton.next_power_of_2(hidden), "ADDS": adds},
                    config,
                )
