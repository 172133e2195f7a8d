"""Adapters with random weights, in host memory and in a pool of slabs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.lora.batch import AdapterWeights, Expand, LoraBatch, LoraGroup, SiteWeights
from kindling_engine.lora.slab_layout import SiteShape, adapter_pack
from kindling_engine.lora.slabs import PAGE_BYTES, DeviceSlabs

Ranks = Sequence[Sequence[int]]
"""By site, each target's rank; 0 for a target, and nothing for a site, that the adapter leaves alone."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """Adapters by slot, as the grouped torch path takes them and in slabs on the same device."""

    slabs: DeviceSlabs
    weights: tuple[AdapterWeights, ...]

    def grouped(self, slots: Sequence[int]) -> LoraBatch:
        """The same step for the torch path."""
        runs: dict[int, list[tuple[int, int]]] = {}
        for token, slot in enumerate(slots):
            if slot >= 0:
                runs.setdefault(slot, []).append((token, token + 1))
        return LoraBatch(tuple(LoraGroup(tuple(spans), self.weights[slot]) for slot, spans in runs.items()))


def weights_make(
    shapes: Sequence[SiteShape], ranks: Ranks, *, seed: int, dtype: torch.dtype = torch.float32
) -> AdapterWeights:
    """A of unit rows and B of unit size, in host memory; a site's targets last to first, as files may have them."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*size: int, scale: float) -> Tensor:
        return (torch.randn(size, generator=generator) * scale).to(dtype)

    sites: list[SiteWeights | None] = []
    for shape, targets in zip(shapes, ranks, strict=True):
        expands, first = [], 0
        for start, width, rank in reversed(list(zip(shape.starts, shape.widths, targets, strict=False))):
            if rank:
                expands.append(
                    Expand(first, first + rank, start, start + width, randn(rank, width, scale=rank**-0.5))
                )
                first += rank
        shrink = randn(first, shape.in_features, scale=max(1, shape.in_features) ** -0.5)
        sites.append(SiteWeights(shrink, tuple(expands)) if expands else None)
    size = sum(
        site.shrink.nbytes + sum(expand.weight.nbytes for expand in site.expands)
        for site in sites
        if site is not None
    )
    return AdapterWeights(tuple(sites), size, max(max(targets, default=0) for targets in ranks))


def weights_to(weights: AdapterWeights, device: torch.device) -> AdapterWeights:
    """The same weights in the device's memory."""
    sites = tuple(
        None
        if site is None
        else SiteWeights(
            site.shrink.to(device),
            tuple(
                Expand(one.first, one.last, one.start, one.stop, one.weight.to(device))
                for one in site.expands
            ),
        )
        for site in weights.sites
    )
    return AdapterWeights(sites, weights.size_bytes, weights.rank)


def shelf_make(
    shapes: Sequence[SiteShape], adapters: Sequence[Ranks], *, dtype: torch.dtype, device: torch.device
) -> Shelf:
    """A pool with a slot for each adapter, in order."""
    made = [weights_make(shapes, ranks, seed=index, dtype=dtype) for index, ranks in enumerate(adapters)]
    packed = [adapter_pack(one, shapes, dtype, pinned=device.type == "cuda") for one in made]
    pages = sum(-(-one.slab.numel() // PAGE_BYTES) for one in packed)
    slabs = DeviceSlabs(
        shapes,
        budget_bytes=pages * PAGE_BYTES,
        num_slots=len(adapters),
        max_target_rank=max(one.rank for one in made),
        dtype=dtype,
        device=device,
    )
    for index, one in enumerate(packed):
        assert slabs.load(one) == index
        slabs.await_slot(index)
    return Shelf(slabs, tuple(weights_to(one, device) for one in made))
