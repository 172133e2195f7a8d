"""Products: a mixture of experts, and linear layers in FP8."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels import fp8_linear, moe
from kindling_engine.kernels.fp8_linear import Fp8Linear, fp8_linear_reference, fp8_supported
from kindling_engine.kernels.tuning import Config
from kindling_engine.layers.mlp import gate
from kindling_engine.layers.moe import GroupedExperts, SparseMlp


@dataclass(frozen=True, slots=True)
class MoeShape:
    """A mixture's sizes; ``top_k`` experts of each token."""

    hidden: int
    inner: int
    experts: int
    top_k: int


QWEN3_30B_A3B = MoeShape(2048, 768, 128, 8)
"""Sizes of Qwen3-30B-A3B as its config.json has them."""


@dataclass(frozen=True, slots=True)
class _MoeInputs:
    x: Tensor
    scores: Tensor
    """In fp32, where hardly two are equal: of those each implementation may take another expert."""
    gate_up: Tensor
    down: Tensor


def moe_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    rows: tuple[int, ...] = (32, 256, 4096),
    shape: MoeShape = QWEN3_30B_A3B,
) -> Iterator[Problem]:
    """Routing, both products and the weighted sum, for decode batches and a prompt; torch has a grouped GEMM."""
    for count in rows:
        yield _moe(device, dtype, count, shape)


def _moe(device: torch.device, dtype: torch.dtype, rows: int, shape: MoeShape) -> Problem:
    def inputs(index: int) -> _MoeInputs:
        generator = torch.Generator(device=device).manual_seed(index)

        def made(*size: int) -> Tensor:
            return 0.05 * torch.randn(size, device=device, generator=generator)

        return _MoeInputs(
            (20 * made(rows, shape.hidden)).to(dtype),
            40 * made(rows, shape.experts),
            made(shape.experts, 2 * shape.inner, shape.hidden).to(dtype),
            made(shape.experts, shape.hidden, shape.inner).to(dtype),
        )

    def ours(one: _MoeInputs, config: Config | None) -> Tensor:
        return moe.sparse_mlp(
            one.x,
            one.scores,
            one.gate_up,
            one.down,
            kind="silu",
            top_k=shape.top_k,
            normalised=True,
            config=config,
        )

    def by_torch(one: _MoeInputs) -> Tensor:
        experts = GroupedExperts(one.gate_up, one.down, F.silu, by_torch=True)
        mlp = SparseMlp(
            torch.empty(shape.experts, 0),
            experts,
            top_k=shape.top_k,
            normalised=True,
            route=lambda router, bias: lambda x: one.scores,
        )
        return mlp(one.x, None)

    used = min(shape.experts, rows * shape.top_k)
    weights = used * 3 * shape.inner * shape.hidden * dtype.itemsize
    moved = rows * shape.hidden * dtype.itemsize
    return Problem(
        op="sparse_mlp",
        shape=f"{rows} × {shape.hidden}, {shape.top_k} of {shape.experts} experts of {shape.inner}",
        dtype=str(dtype).removeprefix("torch."),
        inputs=inputs,
        ours=ours,
        reference=lambda one: _experts_one_by_one(one, shape),
        configs=moe.CONFIGS,
        tolerance=1e-5 if dtype == torch.float32 else 2e-2,
        bytes_read=weights + moved,
        bytes_written=moved,
        flops=6.0 * rows * shape.top_k * shape.inner * shape.hidden,
        peers={"torch grouped": lambda one: lambda: by_torch(one)},
    )


def _experts_one_by_one(one: _MoeInputs, shape: MoeShape) -> Tensor:
    """Every expert on all tokens, in fp32, weighted by what the router gives it."""
    weights, chosen = one.scores.softmax(dim=-1, dtype=torch.float32).topk(shape.top_k, dim=-1)
    share = torch.zeros(one.x.shape[0], shape.experts, device=one.x.device)
    share.scatter_(1, chosen, weights / weights.sum(dim=-1, keepdim=True))
    total = torch.zeros_like(one.x, dtype=torch.float32)
    for expert in range(shape.experts):
        gated = gate(F.linear(one.x.float(), one.gate_up[expert].float()), F.silu)
        total += share[:, expert, None] * F.linear(gated, one.down[expert].float())
    return total.to(one.x.dtype)


def fp8_problems(device: torch.device, *, rows: tuple[int, ...] = (1, 32, 256, 8192)) -> Iterator[Problem]:
    """An 8 B model's widest projections with e4m3 operands; the peer is the same product in bf16.

    None where the device has no such product.
    """
    if fp8_supported(device):
        for count in rows:
            for width, out in ((4096, 28672), (14336, 4096)):
                yield _fp8(device, count, width, out)


@dataclass(frozen=True, slots=True)
class _Fp8Inputs:
    x: Tensor
    weight: Tensor
    linear: Fp8Linear


def _fp8(device: torch.device, rows: int, width: int, out: int) -> Problem:
    def inputs(index: int) -> _Fp8Inputs:
        generator = torch.Generator(device=device).manual_seed(index)
        x = torch.randn(rows, width, device=device, generator=generator).to(torch.bfloat16)
        weight = (0.02 * torch.randn(out, width, device=device, generator=generator)).to(torch.bfloat16)
        return _Fp8Inputs(x, weight, Fp8Linear(weight))

    def reference(one: _Fp8Inputs) -> Tensor:
        quantised, scale = fp8_linear.quantise_rows_reference(one.weight)
        return fp8_linear_reference(one.x, quantised, scale)

    moved = rows * (width + out) * 2
    return Problem(
        op="fp8_linear",
        shape=f"{rows} × {width} → {out}",
        dtype="float8_e4m3fn",
        inputs=inputs,
        ours=lambda one, config: one.linear(one.x),
        reference=reference,
        configs=(Config(),),
        tolerance=2e-2,
        bytes_read=width * out + rows * width * 2,
        bytes_written=moved - rows * width * 2,
        # e4m3 multiplies at twice the rate of bf16, which the ceiling is measured in.
        flops=1.0 * rows * width * out,
        # The same product of unrounded operands differs by the rounding, not by a mistake.
        peers={"bf16": lambda one: lambda: F.linear(one.x, one.weight)},
    )
