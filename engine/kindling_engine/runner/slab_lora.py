"""Adapters of a device's steps: by slot where a slab holds them, by runs of rows where none can."""

from collections.abc import Callable, Sequence

from torch import Tensor

from kindling_engine.lora.batch import AdapterWeights, LoraBatch, LoraGroup
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.runner.device_rows import NO_ADAPTER
from kindling_engine.scheduler.plan import ScheduledRow

MakeSlabLora = Callable[[Tensor, tuple[LoraGroup, ...], int | None], LoraBatch]
"""From each token's slot, int32 ``[n]`` on the device, the groups that no slab holds, and how many slots there are."""


def slab_lora_for(slabs: DeviceSlabs) -> MakeSlabLora:
    """The kernels' way; imported when it is wanted, since it needs Triton."""
    from kindling_engine.lora.device import device_lora_batch

    def make(slots: Tensor, groups: tuple[LoraGroup, ...], num_adapters: int | None) -> LoraBatch:
        return device_lora_batch(slots, slabs, groups, num_adapters)

    return make


class SlabAdapters:
    """What a step's rows have of adapters; one thread asks, for steps in the order in which they are launched."""

    def __init__(self, slabs: DeviceSlabs, lookup: Callable[[str], AdapterWeights]) -> None:
        self._slabs = slabs
        self._lookup = lookup
        self.make = slab_lora_for(slabs)

    def slot(self, adapter: str) -> int:
        """An adapter's slot, −1 for none, and for one that no slab holds. What is launched next waits for its load."""
        slot = self._lookup(adapter).slot if adapter else None
        if slot is None:
            return NO_ADAPTER
        self._slabs.await_slot(slot)
        return slot

    def captured(self, rows: Sequence[ScheduledRow]) -> bool:
        """Whether slots tell all there is about the rows' adapters, so that a graph may hold them."""
        return all(
            not row.request.adapter or self._lookup(row.request.adapter).slot is not None for row in rows
        )

    def token_slots(self, rows: Sequence[ScheduledRow]) -> list[int]:
        """The slot of each token."""
        return [slot for row in rows for slot in [self.slot(row.request.adapter)] * row.count]
