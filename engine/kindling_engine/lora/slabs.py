"""Adapters on the device: slabs in one pool, found by slot through tables that live on the device as well.

Loads run on a stream of their own beside the steps. A load waits for the steps that were launched before the last
``free``, since its slab may lie where those still read; the steps that use it wait for the load (``await_slot``). So
neither ever waits on the host.

Behind the pool's own part there may be blocks of the KV cache (``kvcache.arena``). A slab lies in the own part whole,
or in borrowed blocks in pieces; the tables tell where each matrix is, so nothing that reads them sees a difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kindling_engine.kvcache.arena import OWN_STEP, Arena
from kindling_engine.lora.pieces import slab_pieces
from kindling_engine.lora.slab_layout import (
    ALIGNMENT,
    DEVICE_FORM,
    FIELDS,
    PackedAdapter,
    SiteShape,
    SlabForm,
    header_bytes,
)
from kindling_engine.lora.spans import Spans

PAGE_BYTES = OWN_STEP
_cuda: Any = torch.cuda  # its classes are untyped in torch


@dataclass(frozen=True, slots=True)
class SlabTables:
    """What kernels read: ``pool [elements]``; ``offsets`` int64 ``[slots, sites, 4]``, elements from the pool's start
    to A and to each target's B; ``firsts`` int32 ``[slots, sites, 4]``, a target's first rank, and the whole one last,
    all multiples of the form's step.

    ``max_rank`` bounds the whole rank of any site. None of the tensors is ever replaced, so a graph may keep them.
    """

    pool: Tensor
    offsets: Tensor
    firsts: Tensor
    max_rank: int


@dataclass(frozen=True, slots=True)
class Lending:
    """Blocks of an arena for slabs, ``most_blocks`` at a time, ``room`` of them now.

    ``take(count, cached)`` gives as many as are asked for, or none; only if ``cached`` such as hold a known prefix.
    """

    arena: Arena
    most_blocks: int
    take: Callable[[int, bool], list[int] | None]
    give_back: Callable[[list[int]], None]
    room: Callable[[], int]


@dataclass(frozen=True, slots=True, eq=False)
class _Seat:
    """Pages of the own part, from ``first`` on, or borrowed blocks. Looking for a free one compares each with None."""

    first: int
    pages: int
    blocks: tuple[int, ...] = ()


class DeviceSlabs:
    """A pool of ``budget_bytes`` with ``num_slots`` seats. One thread loads and frees."""

    def __init__(
        self,
        shapes: Sequence[SiteShape],
        *,
        budget_bytes: int,
        num_slots: int,
        max_target_rank: int = 256,
        dtype: torch.dtype,
        device: torch.device,
        form: SlabForm = DEVICE_FORM,
        lending: Lending | None = None,
    ) -> None:
        """``max_target_rank``: the largest rank that a target may have. ``lending`` has the pool in its arena."""
        self.form = form
        self.shapes = tuple(shapes)
        self.dtype = dtype
        self.device = device
        self.num_slots = num_slots
        most = max((len(shape.widths) for shape in self.shapes), default=1)
        if lending is None:
            memory = torch.empty(
                max(1, budget_bytes // PAGE_BYTES) * PAGE_BYTES, dtype=torch.uint8, device=device
            )
            pages = memory.numel() // PAGE_BYTES
        else:
            memory, pages = lending.arena.memory, lending.arena.own_bytes // PAGE_BYTES
        self._bytes = memory
        self._own_bytes = pages * PAGE_BYTES
        self._lending = lending
        entries = (num_slots, len(self.shapes), FIELDS)
        self.tables = SlabTables(
            pool=self._bytes.view(dtype),
            offsets=torch.zeros(entries, dtype=torch.int64, device=device),
            firsts=torch.zeros(entries, dtype=torch.int32, device=device),
            max_rank=max(1, most) * -(-max_target_rank // form.rank_step) * form.rank_step,
        )
        self._spans = Spans(pages)
        self._seats: list[_Seat | None] = [None] * num_slots
        self._stream: Any = _cuda.Stream(device) if device.type == "cuda" else None
        self._arrivals: dict[int, Any] = {}
        self._freed: Any = None
        # The tables are being zeroed, and the first load must come behind that.
        self._note_freed()

    @property
    def free_bytes(self) -> int:
        return self._spans.free * PAGE_BYTES

    @property
    def pinned(self) -> bool:
        """Whether slabs for this pool belong in pinned memory."""
        return self._stream is not None

    def holds(self, packed: PackedAdapter) -> bool:
        """Whether the pool would take a slab if it were empty."""
        pages = -(-packed.slab.numel() // PAGE_BYTES)
        return packed.rank <= self.tables.max_rank and pages * PAGE_BYTES <= self._own_bytes

    @torch.inference_mode()
    def load(self, packed: PackedAdapter) -> int | None:
        """Begin to copy a slab into a free slot; None where slots or contiguous room are lacking: free some first.

        Raises ValueError for an adapter that no ``free`` would make room for, or whose rank is too large.
        """
        pages = -(-packed.slab.numel() // PAGE_BYTES)
        if not self.holds(packed):
            raise ValueError(f"rank {packed.rank}, {packed.slab.numel() >> 20} MiB: more than the pool takes")
        if None not in self._seats:
            return None
        first = self._spans.take(pages)
        if first is None:
            return None
        return self._begin(
            _Seat(first, pages), lambda slot: self._write(slot, first * PAGE_BYTES, packed.slab)
        )

    @property
    def may_borrow(self) -> bool:
        """Whether there is a block to be had, for a slab that is small enough."""
        return self._lending is not None and self._lending.room() > 0 and None in self._seats

    @torch.inference_mode()
    def borrow(self, packed: PackedAdapter, *, cached: bool) -> int | None:
        """As ``load``, into borrowed blocks; None where slots or idle blocks are lacking, or a matrix has no room in
        one. ``cached``: at the price of prefixes that nobody uses now.
        """
        lending, itemsize = self._lending, self.dtype.itemsize
        if lending is None or None not in self._seats or packed.rank > self.tables.max_rank:
            return None
        block_bytes = lending.arena.block_bytes
        payload = packed.slab.numel() - header_bytes(len(self.shapes))[1]
        if block_bytes % ALIGNMENT or lending.room() * block_bytes < payload:
            return None
        pieces = slab_pieces(packed, len(self.shapes), itemsize, block_bytes)
        blocks = None if pieces is None else lending.take(len(pieces.spans), cached)
        if pieces is None or blocks is None:
            return None
        starts = [lending.arena.block_start(block) for block in blocks]
        offsets = torch.from_numpy(pieces.placed(starts) // itemsize)
        # Steps launched so far may still read what was in these blocks.
        self._note_freed()

        def write(slot: int) -> None:
            for (begin, stop), start in zip(pieces.spans, starts, strict=True):
                self._bytes[start : start + stop - begin].copy_(packed.slab[begin:stop], non_blocking=True)
            self._note_tables(slot, packed.slab, offsets.pin_memory() if self.pinned else offsets)

        return self._begin(_Seat(0, 0, tuple(blocks)), write)

    def borrowed(self, slot: int) -> int:
        """Blocks that a slot's slab lies in; 0 for the own part."""
        seat = self._seats[slot]
        return 0 if seat is None else len(seat.blocks)

    def arrived(self, slot: int) -> bool:
        """Whether a loaded slot's slab is there already; asks, and does not wait."""
        event = self._arrivals.get(slot)
        return event is None or bool(event.query())

    def await_slot(self, slot: int) -> None:
        """Let what is launched from now on come behind the slot's load; to be said before its first step."""
        event = self._arrivals.get(slot)
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)

    def free(self, slot: int) -> None:
        """Give a slot and its room back. Steps that use it must have been launched before, and none may after.

        Raises RuntimeError for a slot that holds nothing.
        """
        seat = self._seats[slot]
        if seat is None:
            raise RuntimeError(f"slot {slot} holds no adapter")
        self._seats[slot] = None
        arrival = self._arrivals.pop(slot, None)
        if self._lending is not None and seat.blocks:
            if arrival is not None:
                # Whoever writes to the blocks next does so behind a load that is under way.
                torch.cuda.current_stream(self.device).wait_event(arrival)
            self._lending.give_back(list(seat.blocks))
        else:
            self._spans.give(seat.first, seat.pages)
        self._note_freed()

    def _begin(self, seat: _Seat, write: Callable[[int], None]) -> int:
        """Give a slab's seat a slot and write to it, beside the steps where the device can."""
        slot = self._seats.index(None)
        self._seats[slot] = seat
        if self._stream is None:
            write(slot)
            return slot
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._freed)
            write(slot)
            self._arrivals[slot] = _cuda.Event()
            self._arrivals[slot].record(self._stream)
        return slot

    def _note_freed(self) -> None:
        """What was launched up to now comes before the loads that follow."""
        if self._stream is not None:
            self._freed = _cuda.Event()
            self._freed.record(torch.cuda.current_stream(self.device))

    def _write(self, slot: int, start: int, slab: Tensor) -> None:
        """One copy from the host; the header then goes to the tables within the device."""
        target = self._bytes[start : start + slab.numel()]
        target.copy_(slab, non_blocking=True)
        split, _ = header_bytes(len(self.shapes))
        offsets, firsts = self.tables.offsets[slot], self.tables.firsts[slot]
        base = start // self.dtype.itemsize
        torch.add(target[:split].view(torch.int64).view_as(offsets), base, out=offsets)
        firsts.copy_(target[split : split + firsts.nbytes].view(torch.int32).view_as(firsts))

    def _note_tables(self, slot: int, slab: Tensor, offsets: Tensor) -> None:
        """A slot's rows of the tables, for a slab whose header stays on the host."""
        split, _ = header_bytes(len(self.shapes))
        firsts = self.tables.firsts[slot]
        self.tables.offsets[slot].copy_(offsets, non_blocking=True)
        firsts.copy_(slab[split : split + firsts.nbytes].view(torch.int32).view_as(firsts), non_blocking=True)
