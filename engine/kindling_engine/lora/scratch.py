"""Slabs that were read once, in a file without a name: a read away from the pool, with nothing to check or convert.

The tier beneath memory. The file takes room as it is used and goes with the process; the system keeps in its cache what
it has memory for. Whatever cannot be written or read back whole is as if it had never been there.
"""

import os
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.policy import Worth
from kindling_engine.lora.slab_layout import PackedAdapter
from kindling_engine.lora.spans import Spans
from kindling_engine.protocol.adapter_files import CONFIG_NAME, WEIGHTS_NAME

_PAGE_BYTES = 64 << 10
_MOST_KEPT = 16_384
"""However small they are: what is known of each takes memory."""

Origin = tuple[tuple[int, int, int], ...]
"""Inode, size and time of each file that an adapter was read from."""


@dataclass(frozen=True, slots=True)
class _Kept:
    loaded: LoadedAdapter
    """Without its slab."""
    rank: int
    origin: Origin
    span: tuple[int, int]
    size: int
    checksum: int


class SlabScratch:
    """At most ``budget_bytes`` in a file in ``folder``; any thread may call it."""

    def __init__(self, folder: Path, *, budget_bytes: int) -> None:
        self._lock = threading.Lock()
        self._spans = Spans(budget_bytes // _PAGE_BYTES)
        self._worth = Worth()
        self._kept: dict[str, _Kept] = {}
        self._descriptor = _nameless(folder)
        if self._descriptor < 0:
            self._spans = Spans(0)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, adapter: str, folder: Path, *, pinned: bool) -> LoadedAdapter | None:
        """An adapter as it was put here; None if it was not, or its files are others by now."""
        with self._lock:
            kept = self._kept.get(adapter)
            if kept is None:
                return None
            slab = torch.empty(kept.size, dtype=torch.uint8, pin_memory=pinned)
            view = _bytes_of(slab)
            try:
                whole = os.preadv(self._descriptor, [view], kept.span[0] * _PAGE_BYTES) == kept.size
            except OSError:
                whole = False
            if not whole or kept.origin != _origin(folder) or crc32(view) != kept.checksum:
                self._forget(adapter)
                return None
            self._worth.used(adapter, kept.size)
            return replace(kept.loaded, packed=PackedAdapter(slab, kept.rank))

    def put(self, adapter: str, folder: Path, loaded: LoadedAdapter) -> None:
        """Write a slab; others make room for it."""
        if loaded.packed is None:
            return
        slab, origin = _bytes_of(loaded.packed.slab), _origin(folder)
        with self._lock:
            self._forget(adapter)
            span = None if origin is None else self._room(-(-len(slab) // _PAGE_BYTES))
            if span is None or origin is None:
                return
            try:
                if os.pwritev(self._descriptor, [slab], span[0] * _PAGE_BYTES) != len(slab):
                    raise OSError
            except OSError:
                self._spans.give(*span)
                return
            self._kept[adapter] = _Kept(
                replace(loaded, packed=None), loaded.packed.rank, origin, span, len(slab), crc32(slab)
            )
            self._worth.used(adapter, len(slab))

    def drop(self, adapter: str) -> None:
        with self._lock:
            self._forget(adapter)

    def _room(self, pages: int) -> tuple[int, int] | None:
        victims: Sequence[str] = ()
        if len(self._kept) >= _MOST_KEPT:
            for name in self._worth.cheapest_first(list(self._kept))[: _MOST_KEPT // 16]:
                self._forget(name, evicted=True)
        while (first := self._spans.take(pages)) is None:
            # Sorting thousands once for each of them would hold the loader up.
            victims = victims or self._worth.cheapest_first(list(self._kept))
            if not victims:
                return None
            victim, victims = victims[0], victims[1:]
            self._forget(victim, evicted=True)
        return first, pages

    def _forget(self, adapter: str, *, evicted: bool = False) -> None:
        kept = self._kept.pop(adapter, None)
        if kept is not None:
            self._spans.give(*kept.span)
            (self._worth.evicted if evicted else self._worth.forgotten)(adapter)


def _bytes_of(slab: Tensor) -> memoryview:
    """The slab's own memory."""
    return memoryview(slab.numpy().data)


def _nameless(folder: Path) -> int:
    """A descriptor of a file that is gone with the process; −1 where none can be made."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".slabs-", dir=folder)
        Path(name).unlink()
    except OSError:
        return -1
    return descriptor


def _origin(folder: Path) -> Origin | None:
    try:
        found = [(folder / name).stat() for name in (CONFIG_NAME, WEIGHTS_NAME)]
    except OSError:
        return None
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)
