"""Adapters on a GPU: decode of a batch whose rows have adapters of their own, beside the base alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import torch

from kindling_engine.bench.contest import say
from kindling_engine.bench.cuda_decode import decode_tok_s
from kindling_engine.bench.figures import Value
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.random_model import random_model
from kindling_engine.bench.shapes import INIT_STD, LlamaShape
from kindling_engine.lora.batch import AdapterWeights, Expand, SiteWeights
from kindling_engine.lora.slab_layout import PackedAdapter, SiteShape, adapter_pack, site_shapes
from kindling_engine.lora.slabs import PAGE_BYTES, DeviceSlabs
from kindling_engine.lora.stores import slots_for

_BATCH, _RANK = 32, 16
_CONTEXT, _OUTPUT = 1024, 256


def lora_decode_measure(
    shape: LlamaShape,
    *,
    device: torch.device,
    repeats: int,
    batch: int = _BATCH,
    counts: tuple[int, ...] = (8, 32),
    context: int = _CONTEXT,
    output: int = _OUTPUT,
) -> dict[str, Value]:
    """Shares of the base's decode speed: with a pool of adapters that nobody uses, and with so many among the rows.

    Every linear layer has one of rank 16. A byte floor is what is left if a step takes as much longer as reading its
    adapters once takes beside weights, K and V.
    """
    seeds = count(1)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = random_model(shape, dtype=dtype, device=device)
    make = partial(
        OurEngine,
        model,
        kv_tokens=batch * (context + output + 16) + 1024,
        max_batch=batch,
        step_tokens=8192,
    )

    def tok_s(engine: OurEngine, adapters: Sequence[str] = ()) -> float:
        return decode_tok_s(engine, batch, context, output, repeats=repeats, seeds=seeds, adapters=adapters)

    base = tok_s(make())
    slabs, adapters, adapter_bytes = _pool(site_shapes(model.lora), max(counts), dtype, device)
    # The runner attaches pages of its own to the model, so the engine before it is of no more use.
    engine = make(slabs=slabs, adapters=adapters)
    unused = tok_s(engine)
    values: dict[str, Value] = {"gpu_lora_base_tok_s": base, "gpu_lora_unused_fraction": unused / base}
    say(f"adapters: {base:,.0f} tok/s without a pool, {unused / base:.1%} of that with one that nobody uses")
    kv_bytes = batch * (context + output / 2) * shape.kv_elements_per_token * dtype.itemsize
    step_bytes = shape.read_per_step * dtype.itemsize + kv_bytes
    for number in counts:
        names = list(adapters)[:number]
        speed = tok_s(engine, [names[row % number] for row in range(batch)])
        floor = step_bytes / (step_bytes + number * adapter_bytes)
        values[f"gpu_lora_{number}_fraction"] = speed / base
        values[f"gpu_lora_{number}_byte_floor"] = floor
        say(f"{number} adapters of rank {_RANK}: {speed / base:.1%} of the base's, byte floor {floor:.1%}")
    return values


def _pool(
    shapes: Sequence[SiteShape], number: int, dtype: torch.dtype, device: torch.device
) -> tuple[DeviceSlabs, dict[str, AdapterWeights], int]:
    """A pool with adapters by name, and the bytes of one. All have the same numbers, each in a place of its own."""
    weights, packed = _adapter(shapes, dtype, pinned=device.type == "cuda")
    size = packed.slab.numel()
    budget_bytes = number * (size + PAGE_BYTES)
    slabs = DeviceSlabs(
        shapes, budget_bytes=budget_bytes, num_slots=slots_for(budget_bytes), dtype=dtype, device=device
    )
    adapters = {}
    for index in range(number):
        slot = slabs.load(packed)
        if slot is None:
            raise RuntimeError(f"the pool has no room for adapter {index}")
        adapters[f"adapter-{index}"] = replace(weights, sites=(), slot=slot)
    return slabs, adapters, size


def _adapter(
    shapes: Sequence[SiteShape], dtype: torch.dtype, *, pinned: bool
) -> tuple[AdapterWeights, PackedAdapter]:
    """On all targets of all sites, in host memory."""
    generator = torch.Generator().manual_seed(0)

    def randn(*size: int) -> torch.Tensor:
        return (INIT_STD * torch.randn(size, generator=generator)).to(dtype)

    def site(shape: SiteShape) -> SiteWeights | None:
        expands = tuple(
            Expand(index * _RANK, (index + 1) * _RANK, start, start + width, randn(_RANK, width))
            for index, (start, width) in enumerate(zip(shape.starts, shape.widths, strict=True))
        )
        return SiteWeights(randn(len(expands) * _RANK, shape.in_features), expands) if expands else None

    weights = AdapterWeights(tuple(map(site, shapes)), 0, _RANK)
    return weights, adapter_pack(weights, shapes, dtype, pinned=pinned)
