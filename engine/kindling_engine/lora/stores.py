"""Where adapters lie that steps may use: as they were read, or as slabs in a pool."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch

from kindling_engine.lora.bags import Seat, bags_fit
from kindling_engine.lora.batch import AdapterWeights, Expand, SiteWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.lora.slab_layout import HOST_FORM, PackedAdapter, SiteShape, adapter_pack, site_shapes
from kindling_engine.lora.slabs import DeviceSlabs

LEAST_SLOT_BYTES = 128 << 10
"""Of memory for each slot; smaller adapters run out of slots before they run out of memory."""
MOST_SLOTS = 4096


class AdapterStore(Protocol):
    """``ready`` runs on the loader's thread, all else on the core's. ``pinned``: slabs belong in pinned memory."""

    pinned: bool

    def ready(self, loaded: LoadedAdapter) -> LoadedAdapter:
        """Bring what was read into the form that ``place`` takes."""

    def place(self, loaded: LoadedAdapter) -> AdapterWeights | None:
        """Weights that steps may use, or will when ``arrived``; None where room is lacking."""

    def arrived(self, weights: AdapterWeights) -> bool:
        """Whether a step would not have to wait for what ``place`` began."""

    def remove(self, weights: AdapterWeights) -> None:
        """Give room back; steps launched before may still read there, later ones must not."""


class LooseStore:
    """Weights as they were read, each matrix for itself."""

    pinned = False

    def ready(self, loaded: LoadedAdapter) -> LoadedAdapter:
        return loaded

    def place(self, loaded: LoadedAdapter) -> AdapterWeights | None:
        return loaded.weights

    def arrived(self, weights: AdapterWeights) -> bool:
        return True

    def remove(self, weights: AdapterWeights) -> None:
        pass


class HostStore(LooseStore):
    """Slabs in one pool of a CPU's memory, which is taken page by page as it is used; others lie loose."""

    def __init__(self, shapes: Sequence[SiteShape], *, budget_bytes: int, max_rank: int = 256) -> None:
        self.slabs = DeviceSlabs(
            shapes,
            budget_bytes=budget_bytes,
            num_slots=slots_for(budget_bytes),
            max_target_rank=max_rank,
            dtype=torch.float32,
            device=torch.device("cpu"),
            form=HOST_FORM,
        )

    def ready(self, loaded: LoadedAdapter) -> LoadedAdapter:
        if not loaded.weights.plain:
            return loaded
        packed = adapter_pack(
            loaded.weights, self.slabs.shapes, self.slabs.dtype, pinned=False, form=self.slabs.form
        )
        return in_slab(loaded, packed, self.slabs)

    def place(self, loaded: LoadedAdapter) -> AdapterWeights | None:
        if loaded.packed is None:
            return loaded.weights
        slot = self.slabs.load(loaded.packed)
        if slot is None:
            return None
        tables = self.slabs.tables
        seat = Seat(tables.offsets[slot].numpy().copy(), tables.firsts[slot].numpy().copy())
        return replace(loaded.weights, sites=self._views(seat), seat=seat, slot=slot)

    def remove(self, weights: AdapterWeights) -> None:
        if weights.slot is not None:
            self.slabs.free(weights.slot)

    def _views(self, seat: Seat) -> tuple[SiteWeights | None, ...]:
        """Matrices within the pool, for those who multiply an adapter's rows at once."""
        pool = self.slabs.tables.pool
        sites: list[SiteWeights | None] = []
        for shape, offsets, firsts in zip(
            self.slabs.shapes, seat.offsets.tolist(), seat.firsts.tolist(), strict=True
        ):
            rank = firsts[-1]
            if not rank:
                sites.append(None)
                continue
            shrink = pool[offsets[0] : offsets[0] + shape.in_features * rank].view(shape.in_features, rank)
            expands = []
            for index, (start, width) in enumerate(zip(shape.starts, shape.widths, strict=True)):
                first, last = firsts[index], firsts[index + 1]
                if last > first:
                    begin = offsets[index + 1]
                    weight = pool[begin : begin + (last - first) * width].view(last - first, width)
                    expands.append(Expand(first, last, start, start + width, weight))
            sites.append(SiteWeights(shrink.t(), tuple(expands)))
        return tuple(sites)


class DeviceStore(LooseStore):
    """Slabs in a pool of the device's memory, found there by slot; what no slab holds lies loose on the device."""

    def __init__(self, slabs: DeviceSlabs) -> None:
        self.slabs = slabs
        self.pinned = slabs.pinned

    def ready(self, loaded: LoadedAdapter) -> LoadedAdapter:
        if not loaded.weights.plain:
            return loaded
        slabs = self.slabs
        packed = adapter_pack(loaded.weights, slabs.shapes, slabs.dtype, pinned=slabs.pinned, form=slabs.form)
        return in_slab(loaded, packed, slabs)

    def place(self, loaded: LoadedAdapter) -> AdapterWeights | None:
        if loaded.packed is None:
            return loaded.weights
        slot = self.slabs.load(loaded.packed)
        return None if slot is None else replace(loaded.weights, slot=slot)

    def arrived(self, weights: AdapterWeights) -> bool:
        return weights.slot is None or self.slabs.arrived(weights.slot)

    def remove(self, weights: AdapterWeights) -> None:
        if weights.slot is not None:
            self.slabs.free(weights.slot)


def device_store(
    layout: LoraLayout, *, budget_bytes: int, dtype: torch.dtype, device: torch.device
) -> DeviceStore | None:
    """A pool for a model on a device; None where its sites are none that kernels take."""
    try:
        shapes = site_shapes(layout)
    except ValueError:
        return None
    if not any(shape.widths for shape in shapes):
        return None
    return DeviceStore(
        DeviceSlabs(
            shapes,
            budget_bytes=budget_bytes,
            num_slots=slots_for(budget_bytes),
            dtype=dtype,
            device=device,
        )
    )


def host_store(layout: LoraLayout, *, budget_bytes: int, dtype: torch.dtype) -> HostStore | None:
    """A pool for a model on a CPU; None where its sites are none that bags take."""
    try:
        shapes = site_shapes(layout)
    except ValueError:
        return None
    if not any(shape.widths for shape in shapes) or not bags_fit(shapes, dtype):
        return None
    return HostStore(shapes, budget_bytes=budget_bytes)


def in_slab(loaded: LoadedAdapter, packed: PackedAdapter, slabs: DeviceSlabs) -> LoadedAdapter:
    """An adapter of whose matrices only the slab is kept. Raises AdapterError for one that the pool never holds."""
    size = packed.slab.numel()
    if not slabs.holds(packed):
        raise AdapterError(
            "size", f"The adapter needs {size >> 20} MiB, more than this replica keeps adapters in."
        )
    return replace(loaded, weights=replace(loaded.weights, sites=(), size_bytes=size), packed=packed)


def slots_for(budget_bytes: int) -> int:
    """Slots of a pool of that size."""
    return max(8, min(MOST_SLOTS, budget_bytes // LEAST_SLOT_BYTES))
