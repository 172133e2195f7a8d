"""Linear layers whose operands are e4m3 with a scale per row, multiplied by Hopper's FP8 tensor cores.

    y = (q_x · q_Wᵀ) ⊙ s_x ⊗ s_W + b,    q = e4m3(v / s),    s = max|v| / 448 over a row

Weights have a scale per output, activations one per token, so tokens do not disturb each other. Decode reads half the
bytes of bf16 weights. Quality is a matter of the model: ``bench.logits`` says what it costs.
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.language import to_e4m3
from kindling_engine.kernels.tuning import TUNER, Config, Key, size_class

CONFIGS = tuple(Config(num_warps=warps, num_stages=1) for warps in (8, 4, 16))

_MAX = 448.0
# A row of zeros has no scale of its own; any will do that is not zero.
_LEAST = 1e-12


def quantise_rows_reference(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x [n, k]`` as e4m3 of its shape and a scale fp32 ``[n, 1]`` for each row: x ≈ q · s."""
    wide = x.float()
    peak = wide.abs().amax(dim=-1, keepdim=True).clamp(min=_LEAST)
    # By a tensor: on a GPU torch multiplies with the reciprocal of a number, which rounds otherwise.
    scale = peak / torch.full_like(peak, _MAX)
    return (wide / scale).clamp(-_MAX, _MAX).to(torch.float8_e4m3fn), scale


def fp8_linear_reference(
    x: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None = None
) -> Tensor:
    """What ``Fp8Linear`` computes, on widened operands: ``weight`` e4m3 ``[out, in]``, scale fp32 ``[out, 1]``."""
    quantised, scale = quantise_rows_reference(x)
    output = (quantised.float() @ weight.float().T) * scale * weight_scale.T
    return (output if bias is None else output + bias.float()).to(x.dtype)


def fp8_supported(device: torch.device) -> bool:
    """Whether torch multiplies e4m3 with scales per row there: on Hopper and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


class Fp8Linear:
    """``y = x·Wᵀ + b`` for ``x [n, in]`` bf16 and ``weight [out, in]`` of any float dtype, quantised here.

    Both sizes must be multiples of 16. Raises ValueError for others, and where the device cannot do it.
    """

    __slots__ = ("_bias", "_scale", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        if not fp8_supported(weight.device):
            raise ValueError(f"{weight.device} does not multiply e4m3; FP8 needs compute capability 9.0")
        if weight.shape[0] % 16 or weight.shape[1] % 16:
            raise ValueError(f"FP8 wants multiples of 16, not a weight of shape {tuple(weight.shape)}")
        quantised, scale = quantise_rows_reference(weight)
        # Both views are what the product takes: Wᵀ with its columns contiguous, and its scales as one row.
        self._weight = quantised.t()
        self._scale = scale.t().contiguous()
        self._bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        quantised, scale = quantise_rows(x)
        output = torch._scaled_mm(
            quantised, self._weight, scale_a=scale, scale_b=self._scale, out_dtype=torch.bfloat16
        )
        return output if self._bias is None else output.add_(self._bias)


def quantise_rows(x: Tensor, config: Config | None = None) -> tuple[Tensor, Tensor]:
    """As ``quantise_rows_reference``; rows contiguous, though they may lie apart. One read, half a write."""
    rows, width = x.shape
    quantised = torch.empty((rows, width), dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty((rows, 1), dtype=torch.float32, device=x.device)
    chosen = config or TUNER.chosen(quantise_key(x), CONFIGS)
    _quantise_kernel[(rows,)](
        x,
        quantised,
        scale,
        x.stride(0),
        WIDTH=width,
        BLOCK=triton.next_power_of_2(width),
        **chosen.arguments(),
    )
    return quantised, scale


def quantise_key(x: Tensor) -> Key:
    """What a choice of configuration depends on."""
    rows, width = x.shape
    return ("quantise_rows", width, x.dtype, size_class(rows))


@triton.jit
def _quantise_kernel(x, quantised, scales, stride, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """One row per program, held in registers."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < WIDTH
    value = tl.load(x + row * stride + column, mask=inside, other=0.0).to(tl.float32)
    scale = tl.div_rn(tl.maximum(tl.max(tl.abs(value)), 1e-12), 448.0)
    tl.store(scales + row, scale)
    tl.store(
        quantised + row * WIDTH + column, to_e4m3(tl.div_rn(value, tl.zeros_like(value) + scale)), mask=inside
    )


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: rows of 8 B models, before a projection and within an MLP."""
    for width in (4096, 14336):
        for config in CONFIGS if width > 4096 else CONFIGS[:1]:
            yield Case(
                f"quantise_rows {width}",
                _quantise_kernel,
                (torch.bfloat16, torch.float8_e4m3fn, torch.float32, width),
                {"WIDTH": width, "BLOCK": triton.next_power_of_2(width)},
                config,
            )
