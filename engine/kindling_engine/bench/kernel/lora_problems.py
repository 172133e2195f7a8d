"""Adapters at a site: decode steps with few and many of them, a prompt's chunk, and the sorting a step begins with."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels import lora_segment
from kindling_engine.kernels.lora_expand import CONFIGS as EXPAND
from kindling_engine.kernels.lora_expand import configs_for as expand_configs
from kindling_engine.kernels.lora_expand import lora_expand, lora_expand_reference
from kindling_engine.kernels.lora_segment import Segments, block_for, segments_make, segments_reference
from kindling_engine.kernels.lora_shrink import CONFIGS as SHRINK
from kindling_engine.kernels.lora_shrink import configs_for as shrink_configs
from kindling_engine.kernels.lora_shrink import lora_shrink, lora_shrink_reference
from kindling_engine.kernels.tuning import Config
from kindling_engine.lora.batch import AdapterWeights, Expand, LoraBatch, LoraGroup, SiteWeights
from kindling_engine.lora.slab_layout import SiteShape, adapter_pack
from kindling_engine.lora.slabs import PAGE_BYTES, DeviceSlabs

SITES_8B = {
    "qkv": SiteShape(4096, 0, (4096, 1024, 1024)),
    "gate_up": SiteShape(4096, 0, (14336, 14336)),
    "down": SiteShape(14336, 0, (4096,)),
}
"""Of Llama 3 8B."""
_LOADS = ((32, 1), (32, 8), (32, 32), (2048, 4))


@dataclass(frozen=True, slots=True)
class _Load:
    tokens: int
    adapters: int
    rank: int


@dataclass(frozen=True, slots=True)
class _Inputs:
    x: Tensor
    output: Tensor
    slabs: DeviceSlabs
    segments: Segments
    grouped: LoraBatch


def lora_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    sites: dict[str, SiteShape] | None = None,
    loads: tuple[tuple[int, int], ...] = _LOADS,
    rank: int = 16,
) -> Iterator[Problem]:
    """Each site under each load of (tokens, adapters), then the sorting of as many tokens.

    A configuration is that of both launches: the places of theirs among what their modules offer.
    """
    for tokens, adapters in loads:
        for name, shape in (sites or SITES_8B).items():
            yield _add(device, dtype, name, shape, _Load(tokens, adapters, rank))
    for tokens in sorted({tokens for tokens, _ in loads}):
        yield _segment(device, tokens, max(adapters for _, adapters in loads))


def _add(device: torch.device, dtype: torch.dtype, name: str, shape: SiteShape, load: _Load) -> Problem:
    tokens, adapters, rank = load.tokens, load.adapters, load.rank
    width = sum(shape.widths)

    def inputs(index: int) -> _Inputs:
        return _inputs(device, dtype, shape, load, seed=index)

    def ours(one: _Inputs, config: Config | None) -> Tensor:
        first = SHRINK[config.tiles["SHRINK"]] if config else None
        second = EXPAND[config.tiles["EXPAND"]] if config else None
        tables = one.slabs.tables
        shrunk = lora_shrink(one.x, one.segments, tables, 0, shape, config=first)
        lora_expand(shrunk, one.segments, tables, 0, shape, one.output, config=second)
        return one.output

    def reference(one: _Inputs) -> Tensor:
        shrunk = lora_shrink_reference(one.x, one.segments, one.slabs.tables, 0)
        return lora_expand_reference(shrunk, one.segments, one.slabs.tables, 0, shape, one.output)

    def by_torch(one: _Inputs) -> Tensor:
        one.grouped.add(one.output, one.x, 0)
        return one.output

    numbers = len(shape.widths) * shape.in_features + width
    written = tokens * width * dtype.itemsize
    return Problem(
        op="lora_add",
        shape=f"{name}, {tokens:,} tokens, {adapters} × r{rank}",
        dtype=str(dtype).removeprefix("torch."),
        inputs=inputs,
        ours=ours,
        reference=reference,
        configs=_pairs(tokens),
        tolerance=1e-5 if dtype == torch.float32 else 2e-2,
        bytes_read=(adapters * rank * numbers + tokens * shape.in_features) * dtype.itemsize + written,
        bytes_written=written,
        flops=2.0 * tokens * rank * numbers,
        peers={"torch": lambda one: lambda: by_torch(one)},
    )


def _pairs(tokens: int) -> tuple[Config, ...]:
    chosen = product(shrink_configs(tokens), expand_configs(tokens))
    return tuple(Config({"SHRINK": SHRINK.index(a), "EXPAND": EXPAND.index(b)}) for a, b in chosen)


def _inputs(device: torch.device, dtype: torch.dtype, shape: SiteShape, load: _Load, *, seed: int) -> _Inputs:
    """As many tokens of each adapter, one adapter after another."""
    tokens, adapters, rank = load.tokens, load.adapters, load.rank
    generator = torch.Generator(device=device).manual_seed(seed)

    def made(*size: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(size, device=device, generator=generator)).to(dtype)

    def adapter() -> AdapterWeights:
        shrink = made(len(shape.widths) * rank, shape.in_features, scale=shape.in_features**-0.5)
        expands = tuple(
            Expand(index * rank, (index + 1) * rank, start, start + width, made(rank, width))
            for index, (start, width) in enumerate(zip(shape.starts, shape.widths, strict=True))
        )
        return AdapterWeights((SiteWeights(shrink, expands),), 0, rank)

    weights = [adapter() for _ in range(adapters)]
    packed = [adapter_pack(one, (shape,), dtype, pinned=device.type == "cuda") for one in weights]
    slabs = DeviceSlabs(
        (shape,),
        budget_bytes=sum(one.slab.numel() + PAGE_BYTES for one in packed),
        num_slots=adapters,
        max_target_rank=rank,
        dtype=dtype,
        device=device,
    )
    for one in packed:
        slot = slabs.load(one)
        assert slot is not None
        slabs.await_slot(slot)
    each = tokens // adapters
    slots = torch.arange(adapters, dtype=torch.int32, device=device).repeat_interleave(each)
    groups = (LoraGroup(((i * each, (i + 1) * each),), one) for i, one in enumerate(weights))
    return _Inputs(
        made(tokens, shape.in_features),
        made(tokens, sum(shape.widths)),
        slabs,
        segments_make(slots, block_for(tokens), num_slots=adapters),
        LoraBatch(tuple(groups)),
    )


def _segment(device: torch.device, tokens: int, adapters: int) -> Problem:
    def inputs(index: int) -> Tensor:
        generator = torch.Generator(device=device).manual_seed(index)
        return torch.randint(0, adapters, (tokens,), device=device, generator=generator).to(torch.int32)

    block = block_for(tokens)
    return Problem(
        op="lora_segment",
        shape=f"{tokens:,} tokens, {adapters} adapters",
        dtype="int32",
        inputs=inputs,
        ours=lambda one, config: segments_make(one, block, num_slots=adapters, config=config).order.float(),
        reference=lambda one: segments_reference(one, block, num_slots=adapters).order.float(),
        configs=lora_segment.CONFIGS,
        # An order is right or wrong.
        tolerance=1e-9,
        bytes_read=4.0 * tokens,
        bytes_written=4.0 * tokens,
        peers={"torch": lambda one: lambda: one.argsort(stable=True).float()},
    )
