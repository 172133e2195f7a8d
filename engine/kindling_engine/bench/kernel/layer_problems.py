"""What stands between the products of a layer: the MLP's gate, and the way from a projection to attention's inputs."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels import activation, rope_kv
from kindling_engine.kernels.rope_kv import KvTarget, QkNorm
from kindling_engine.layers.rotary import Rotary, RotaryTables
from kindling_engine.layers.rotary_scaling import RotaryConfig

_ROWS = (32, 256, 8192)
_EPS = 1e-6


def gate_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    rows: tuple[int, ...] = _ROWS,
    inner: tuple[int, ...] = (3072, 14336),
) -> Iterator[Problem]:
    """``silu(g) ⊙ u`` at the inner sizes of 0.6 B and 8 B models."""
    for count in rows:
        for width in inner:
            yield _gate(device, dtype, count, width)


def _gate(device: torch.device, dtype: torch.dtype, rows: int, inner: int) -> Problem:
    def inputs(index: int) -> Tensor:
        generator = torch.Generator(device=device).manual_seed(index)
        return torch.randn(rows, 2 * inner, device=device, generator=generator).to(dtype)

    moved = rows * inner * dtype.itemsize
    return Problem(
        op="silu_mul",
        shape=f"{rows} × {inner}",
        dtype=str(dtype).removeprefix("torch."),
        inputs=inputs,
        ours=lambda one, config: activation.gate(one, "silu", config),
        reference=lambda one: activation.gate_reference(one, "silu"),
        configs=activation.CONFIGS,
        tolerance=1e-5 if dtype == torch.float32 else 1e-2,
        bytes_read=2 * moved,
        bytes_written=moved,
        peers={"torch": lambda one: lambda: F.silu(one[:, :inner]) * one[:, inner:]},
    )


@dataclass(frozen=True, slots=True)
class _RopeInputs:
    qkv: Tensor
    tables: RotaryTables
    norm: QkNorm
    target: KvTarget


def rope_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    rows: tuple[int, ...] = _ROWS,
    heads: int = 32,
    kv_heads: int = 8,
) -> Iterator[Problem]:
    """QK-norm, rotation and the write of K and V, with the heads of an 8 B model of 128 each."""
    for count in rows:
        yield _rope(device, dtype, count, heads, kv_heads)


def _rope(device: torch.device, dtype: torch.dtype, rows: int, heads: int, kv_heads: int) -> Problem:
    dim = 128
    rotary = Rotary(RotaryConfig(theta=1e6, dim=dim), device)

    def inputs(index: int) -> _RopeInputs:
        generator = torch.Generator(device=device).manual_seed(index)
        made = torch.randn(rows, (heads + 2 * kv_heads) * dim, device=device, generator=generator).to(dtype)
        positions = torch.randint(0, 4096, (rows,), device=device, generator=generator)
        pages = torch.zeros(2, kv_heads, -(-rows // 16) + 1, 16, dim, dtype=dtype, device=device)
        ones = torch.ones(dim, dtype=dtype, device=device)
        slots = torch.randperm(rows, device=device, generator=generator) + 16
        return _RopeInputs(
            made,
            rotary.tables(positions, None, dtype),
            QkNorm(ones, ones, _EPS),
            KvTarget(pages[0], pages[1], slots),
        )

    read = rows * (heads + 2 * kv_heads) * dim * dtype.itemsize
    return Problem(
        op="qk_norm_rope_kv_write",
        shape=f"{rows} × ({heads} + 2 · {kv_heads}) × {dim}",
        dtype=str(dtype).removeprefix("torch."),
        inputs=inputs,
        ours=lambda one, config: rope_kv.rope_kv(
            one.qkv, one.tables, one.norm, one.target, heads=heads, config=config
        ),
        reference=lambda one: rope_kv.rope_kv_reference(
            one.qkv, one.tables, one.norm, one.target, heads=heads
        ),
        configs=rope_kv.CONFIGS,
        tolerance=1e-5 if dtype == torch.float32 else 1.6e-2,
        bytes_read=read + 2 * rows * dim * dtype.itemsize,
        bytes_written=read,
        peers={"torch": lambda one: lambda: _rope_torch(one, heads)},
    )


def _rope_torch(one: _RopeInputs, heads: int) -> Tensor:
    """Every row has a slot here: to look for those that have none is to wait for the device."""
    target = one.target
    kv_heads = target.key_pages.shape[0]
    query, *states = rope_kv.rope_reference(one.qkv, one.tables, one.norm, heads=heads, kv_heads=kv_heads)
    for pages, state in zip((target.key_pages, target.value_pages), states, strict=True):
        pages.flatten(1, 2).index_copy_(1, target.slots, state.transpose(0, 1).to(pages.dtype))
    return query.to(one.qkv.dtype).contiguous()
