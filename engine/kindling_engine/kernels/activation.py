"""The gate of an MLP (Shazeer, "GLU Variants Improve Transformer", 2020): ``act(g) ⊙ u`` in one pass.

Memory-bound: 3 elements move for every one computed. Everything between load and store is fp32, so the activation is
not rounded before it is multiplied, as ``layers.mlp.gate`` does in a narrow dtype.
"""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.tuning import TUNER, Config, Key, size_class

Kind = Literal["silu", "gelu", "gelu_tanh", "clamped_swiglu"]

CONFIGS = tuple(
    Config({"BLOCK": block}, num_warps=warps, num_stages=1)
    for block, warps in ((1024, 4), (512, 4), (2048, 4), (2048, 8))
)

_SILU = tl.constexpr(0)
_GELU = tl.constexpr(1)
_GELU_TANH = tl.constexpr(2)
_CLAMPED = tl.constexpr(3)
_KINDS: dict[Kind, int] = {"silu": 0, "gelu": 1, "gelu_tanh": 2, "clamped_swiglu": 3}


def gate_reference(gate_up: Tensor, kind: Kind) -> Tensor:
    """``act(g) ⊙ u`` for ``gate_up [n, 2 · inner]`` that holds g, then u, in fp32, rounded once to ``[n, inner]``.

    "clamped_swiglu" is ``g·σ(1.702·g) ⊙ (u + 1)`` with g up to 7 and u within ±7.
    """
    left, right = gate_up.float().chunk(2, dim=-1)
    if kind == "silu":
        activated = F.silu(left)
    elif kind == "clamped_swiglu":
        left, right = left.clamp(max=7.0), right.clamp(-7.0, 7.0) + 1
        activated = left * torch.sigmoid(1.702 * left)
    else:
        activated = F.gelu(left, approximate="tanh" if kind == "gelu_tanh" else "none")
    return (activated * right).to(gate_up.dtype)


def gate(gate_up: Tensor, kind: Kind, config: Config | None = None) -> Tensor:
    """As ``gate_reference``; rows of ``gate_up`` contiguous, though they may lie apart."""
    rows, both = gate_up.shape
    inner = both // 2
    output = torch.empty((rows, inner), dtype=gate_up.dtype, device=gate_up.device)
    chosen = config or TUNER.chosen(gate_key(gate_up, kind), CONFIGS)
    grid = (rows, triton.cdiv(inner, chosen.tiles["BLOCK"]))
    _gate_kernel[grid](
        gate_up, output, gate_up.stride(0), INNER=inner, KIND=_KINDS[kind], **chosen.arguments()
    )
    return output


def gate_key(gate_up: Tensor, kind: Kind) -> Key:
    """What a choice of configuration depends on."""
    rows, both = gate_up.shape
    return ("gate", both // 2, kind, gate_up.dtype, size_class(rows))


@triton.jit
def _gate_kernel(gate_up, output, stride, INNER: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr):
    """Part of one row per program."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < INNER
    source = gate_up + row * stride + columns
    left = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    right = tl.load(source + INNER, mask=inside, other=0.0).to(tl.float32)
    if KIND == _CLAMPED:
        # Comparisons, as minimum and maximum would make a number of what is none.
        left = tl.where(left > 7.0, 7.0, left)
        right = tl.where(right > 7.0, 7.0, tl.where(right < -7.0, -7.0, right)) + 1.0
    gated = _activated(left, KIND) * right
    tl.store(output + row * INNER + columns, gated.to(output.dtype.element_ty), mask=inside)


@triton.jit
def _activated(x, KIND: tl.constexpr):
    if KIND == _GELU:
        return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    if KIND == _GELU_TANH:
        # ½(1 + tanh z) is the logistic function of 2z, which needs no tanh.
        return x * tl.sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x))
    if KIND == _CLAMPED:
        return x * tl.sigmoid(1.702 * x)
    return x * tl.sigmoid(x)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: the inner size of an 8 B model in every configuration, and every activation."""
    others: tuple[Kind, ...] = ("gelu", "gelu_tanh", "clamped_swiglu")
    for kind, config in [("silu", config) for config in CONFIGS] + [(kind, CONFIGS[0]) for kind in others]:
        yield Case(
            f"gate {kind}",
            _gate_kernel,
            (torch.bfloat16, torch.bfloat16, 2 * 14336),
            {"INNER": 14336, "KIND": _KINDS[kind]},
            config,
        )
