"""Where adapters lie that steps may use: as they were read, or as slabs in a pool."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch

from kindling_engine.lora.bags import Seat, bags_fit
from kindling_engine.lora.batch import AdapterWeights, Expand, SiteWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.sites import LoraLayout
from kindling_engine.lora.slab_layout import HOST_FORM, PackedAdapter, SiteShape, adapter_pack, site_shapes
from kindling_engine.lora.slabs import DeviceSlabs, Lending

LEAST_SLOT_BYTES = 128 << 10
"""Of memory for each slot; smaller adapters run out of slots before they run out of memory."""
MOST_SLOTS = 4096

MakeLending = Callable[[], Lending | None]
"""Asked once it is known that there will be a pool; None where nothing is lent."""


class AdapterStore(Protocol):
    """``ready`` runs on the loader's thread, all else on the core's. ``pinned``: slabs belong in pinned memory."""

    pinned: bool

    def ready(self, loaded: LoadedAdapter) -> LoadedAdapter:
        """Bring what was read into the form that ``place`` takes."""

    def place(self, loaded: LoadedAdapter) -> AdapterWeights | None:
        """Weights that steps may use, or will when ``arrived``; None where room is lacking."""

    def borrow(self, loaded: LoadedAdapter, *, cached: bool) -> AdapterWeights | None:
        """As ``place``, in idle blocks of the KV cache; only if ``cached`` in such as hold a known prefix."""

    def may_borrow(self) -> bool:
        """Whether anything can be had to ``borrow``."""

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

    def borrow(self, loaded: LoadedAdapter, *, cached: bool) -> AdapterWeights | None:
        return None

    def may_borrow(self) -> bool:
        return False

    def arrived(self, weights: AdapterWeights) -> bool:
        return True

    def remove(self, weights: AdapterWeights) -> None:
        pass


class SlabStore(LooseStore):
    """Slabs in one pool; what no slab holds lies loose. ``_seated`` says how steps find a slab."""

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
        return self._seated(loaded, self.slabs.load(loaded.packed))

    def borrow(self, loaded: LoadedAdapter, *, cached: bool) -> AdapterWeights | None:
        if loaded.packed is None:
            return None
        return self._seated(loaded, self.slabs.borrow(loaded.packed, cached=cached))

    def may_borrow(self) -> bool:
        return self.slabs.may_borrow

    def remove(self, weights: AdapterWeights) -> None:
        if weights.slot is not None:
            self.slabs.free(weights.slot)

    def _seated(self, loaded: LoadedAdapter, slot: int | None) -> AdapterWeights | None:
        if slot is None:
            return None
        return replace(loaded.weights, slot=slot, borrowed_blocks=self.slabs.borrowed(slot))


class HostStore(SlabStore):
    """In a CPU's memory, which is taken page by page as it is used."""

    def __init__(
        self,
        shapes: Sequence[SiteShape],
        *,
        budget_bytes: int,
        max_rank: int = 256,
        lending: Lending | None = None,
    ) -> None:
        super().__init__(
            DeviceSlabs(
                shapes,
                budget_bytes=budget_bytes,
                num_slots=slots_for(budget_bytes, lending),
                max_target_rank=max_rank,
                dtype=torch.float32,
                device=torch.device("cpu"),
                form=HOST_FORM,
                lending=lending,
            )
        )

    def _seated(self, loaded: LoadedAdapter, slot: int | None) -> AdapterWeights | None:
        weights = super()._seated(loaded, slot)
        if weights is None or slot is None:
            return None
        tables = self.slabs.tables
        seat = Seat(tables.offsets[slot].numpy().copy(), tables.firsts[slot].numpy().copy())
        return replace(weights, sites=self._views(seat), seat=seat)

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


class DeviceStore(SlabStore):
    """In the device's memory, found there by slot."""

    def arrived(self, weights: AdapterWeights) -> bool:
        return weights.slot is None or self.slabs.arrived(weights.slot)


def device_store(
    layout: LoraLayout,
    *,
    budget_bytes: int,
    dtype: torch.dtype,
    device: torch.device,
    lend: MakeLending = lambda: None,
) -> DeviceStore | None:
    """A pool for a model on a device; None where its sites are none that kernels take."""
    shapes = _shapes(layout)
    if shapes is None:
        return None
    lending = lend()
    return DeviceStore(
        DeviceSlabs(
            shapes,
            budget_bytes=budget_bytes,
            num_slots=slots_for(budget_bytes, lending),
            dtype=dtype,
            device=device,
            lending=lending,
        )
    )


def host_store(
    layout: LoraLayout, *, budget_bytes: int, dtype: torch.dtype, lend: MakeLending = lambda: None
) -> HostStore | None:
    """A pool for a model on a CPU; None where its sites are none that bags take."""
    shapes = _shapes(layout)
    if shapes is None or not bags_fit(shapes, dtype):
        return None
    return HostStore(shapes, budget_bytes=budget_bytes, lending=lend())


def _shapes(layout: LoraLayout) -> tuple[SiteShape, ...] | None:
    """Those of sites that slabs take; None where there are others, or nothing attaches."""
    try:
        shapes = site_shapes(layout)
    except ValueError:
        return None
    return shapes if any(shape.widths for shape in shapes) else None


def in_slab(loaded: LoadedAdapter, packed: PackedAdapter, slabs: DeviceSlabs) -> LoadedAdapter:
    """An adapter of whose matrices only the slab is kept. Raises AdapterError for one that the pool never holds."""
    size = packed.slab.numel()
    if not slabs.holds(packed):
        raise AdapterError(
            "size", f"The adapter needs {size >> 20} MiB, more than this replica keeps adapters in."
        )
    return replace(loaded, weights=replace(loaded.weights, sites=(), size_bytes=size), packed=packed)


def slots_for(budget_bytes: int, lending: Lending | None = None) -> int:
    """Slots of a pool of that size, with what it may borrow."""
    if lending is not None:
        budget_bytes += lending.most_blocks * lending.arena.block_bytes
    return max(8, min(MOST_SLOTS, budget_bytes // LEAST_SLOT_BYTES))
