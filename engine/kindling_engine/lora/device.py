"""Adapters of one step on a GPU, where which token has which adapter is known to the device alone."""

from dataclasses import dataclass

from torch import Tensor

from kindling_engine.kernels.lora_expand import lora_expand
from kindling_engine.kernels.lora_segment import Segments, block_for, segments_make
from kindling_engine.kernels.lora_shrink import lora_shrink
from kindling_engine.lora.batch import LoraBatch, LoraGroup
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.lora.slabs import DeviceSlabs, SlabTables


@dataclass(frozen=True, slots=True)
class DeviceLoraBatch(LoraBatch):
    """``segments`` of the step's tokens over the slabs that ``tables`` tell of, beside groups that slabs cannot hold.

    Two launches a site, whose sizes depend on the number of tokens and on how many adapters they can have at most;
    groups are known to the host, so a captured step has none.
    """

    segments: Segments
    tables: SlabTables
    shapes: tuple[SiteShape, ...]

    def add(self, output: Tensor, x: Tensor, site: int) -> None:
        """Add every token's share to ``output [n, out]`` in place, from the site's input ``x [n, in]``.

        Each sum has an order of its own, so a step gives the same bits whenever it is run.
        """
        shape = self.shapes[site]
        shrunk = lora_shrink(x, self.segments, self.tables, site, shape)
        lora_expand(shrunk, self.segments, self.tables, site, shape, output)
        if self.groups:
            LoraBatch.add(self, output, x, site)


def device_lora_batch(
    slot_of_token: Tensor,
    slabs: DeviceSlabs,
    groups: tuple[LoraGroup, ...] = (),
    num_adapters: int | None = None,
) -> DeviceLoraBatch:
    """For ``slot_of_token`` int32 ``[n]`` on the device: each token's slot in ``slabs``, −1 where none is its own.

    ``groups`` are the tokens of adapters that ``adapter_pack`` refuses; their slots are −1. ``num_adapters``: how many
    different slots there are, where the host knows; else as many as the slabs have are launched for.

    May be called while a graph is captured: what is launched reads ``slot_of_token`` and the slabs' tables when the
    graph is replayed, so both may have changed by then. A step of base rows alone is right, too, but better run
    without any adapters' launches.
    """
    block = block_for(slot_of_token.shape[0])
    segments = segments_make(slot_of_token, block, num_slots=num_adapters or slabs.num_slots)
    return DeviceLoraBatch(groups, segments, slabs.tables, slabs.shapes)
