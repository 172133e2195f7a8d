"""Adapters in memory: least recently used within a byte budget, pinned while in use, loaded on a thread.

A caller asks with a ticket of its own and is told at once, or later through ``poll``, that the adapter is
there and pinned for it. Loads run one at a time and start only while the pinned bytes leave room, so that
memory exceeds the budget by one adapter at most. The step loop never waits for a load.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter

_STARVED_AFTER_S = 2.0

LoadFunction = Callable[[Path], LoadedAdapter]


@dataclass(slots=True)
class CachedAdapter:
    """An adapter in memory and the number of its users."""

    loaded: LoadedAdapter
    pins: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """A ticket's answer: pinned when ``error`` is None."""

    ticket: object
    adapter: str
    error: AdapterError | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    adapter: str
    folder: Path
    ticket: object


class AdapterCache:
    """Single-threaded but for the loader behind it; ``wake`` is called from that thread when a load has
    ended.
    """

    def __init__(self, *, budget_bytes: int, load: LoadFunction, wake: Callable[[], None]) -> None:
        self._budget_bytes = budget_bytes
        self._load = load
        self._wake = wake
        self._ready: OrderedDict[str, CachedAdapter] = OrderedDict()
        self._waiting: list[_Waiting] = []
        self._loading: str | None = None
        self.loads = 0
        self._no_room_since_s: float | None = None
        self._jobs: SimpleQueue[tuple[str, Path]] = SimpleQueue()
        self._done: SimpleQueue[tuple[str, LoadedAdapter | AdapterError]] = SimpleQueue()
        threading.Thread(target=self._load_forever, name="adapter-loader", daemon=True).start()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def weights(self, adapter: str) -> AdapterWeights:
        """Weights of a pinned adapter."""
        return self._ready[adapter].loaded.weights

    def get(self, adapter: str) -> LoadedAdapter | None:
        entry = self._ready.get(adapter)
        return None if entry is None else entry.loaded

    def acquire(self, adapter: str, folder: Path, ticket: object, now_s: float) -> bool:
        """Pin an adapter for a ticket: True if it is there now, False if ``poll`` will tell."""
        if adapter in self._ready and not self._starved(now_s):
            self._pin(adapter)
            return True
        self._waiting.append(_Waiting(adapter, folder, ticket))
        self._load_next(now_s)
        return False

    def withdraw(self, ticket: object) -> bool:
        """Drop a ticket that still waits; False if it does not."""
        before = len(self._waiting)
        self._waiting = [item for item in self._waiting if item.ticket is not ticket]
        return len(self._waiting) < before

    def release(self, adapter: str) -> None:
        """Drop one pin."""
        entry = self._ready[adapter]
        entry.pins -= 1
        if entry.pins < 0:
            raise RuntimeError("an adapter was released more often than it was acquired")
        self._evict()

    def poll(self, now_s: float) -> list[Settled]:
        """Take in finished loads and settle the tickets they answer, oldest first."""
        settled: list[Settled] = []
        while not self._done.empty():
            settled.extend(self._take_in(*self._done.get()))
        starved = self._starved(now_s)
        still: list[_Waiting] = []
        for item in self._waiting:
            if item.adapter in self._ready and not (starved and still):
                self._pin(item.adapter)
                settled.append(Settled(item.ticket, item.adapter))
            else:
                still.append(item)
        self._waiting = still
        self._load_next(now_s)
        return settled

    def states(self) -> list[tuple[str, str, LoadedAdapter | None, int]]:
        """``(adapter, "ready" or "loading", loaded, pins)`` of every adapter known here."""
        rows: list[tuple[str, str, LoadedAdapter | None, int]] = [
            (adapter, "ready", entry.loaded, entry.pins) for adapter, entry in self._ready.items()
        ]
        pending = {item.adapter for item in self._waiting} | ({self._loading} if self._loading else set())
        rows.extend((adapter, "loading", None, 0) for adapter in sorted(pending - self._ready.keys()))
        return rows

    def _pin(self, adapter: str) -> None:
        self._ready[adapter].pins += 1
        self._ready.move_to_end(adapter)

    def _starved(self, now_s: float) -> bool:
        """Whether a load has found no room for long. Newcomers then queue behind it, hot adapters included,
        or they would keep it out for ever; a load that is merely slow holds nobody up.
        """
        since_s = self._no_room_since_s
        return since_s is not None and now_s - since_s > _STARVED_AFTER_S

    def _take_in(self, adapter: str, result: LoadedAdapter | AdapterError) -> list[Settled]:
        self._loading = None
        if isinstance(result, AdapterError):
            failed = [item for item in self._waiting if item.adapter == adapter]
            self._waiting = [item for item in self._waiting if item.adapter != adapter]
            return [Settled(item.ticket, adapter, result) for item in failed]
        self._ready[adapter] = CachedAdapter(result)
        self._evict(keep=adapter)
        return []

    def _evict(self, keep: str = "") -> None:
        used = sum(entry.loaded.weights.size_bytes for entry in self._ready.values())
        for adapter, entry in list(self._ready.items()):
            if used <= self._budget_bytes:
                return
            if entry.pins == 0 and adapter != keep:
                used -= entry.loaded.weights.size_bytes
                del self._ready[adapter]

    def _load_next(self, now_s: float) -> None:
        if self._loading is not None:
            return
        wanted = next((item for item in self._waiting if item.adapter not in self._ready), None)
        if wanted is None:
            self._no_room_since_s = None
            return
        pinned = sum(entry.loaded.weights.size_bytes for entry in self._ready.values() if entry.pins)
        if pinned >= self._budget_bytes:
            if self._no_room_since_s is None:
                self._no_room_since_s = now_s
            return
        self._no_room_since_s = None
        self._loading = wanted.adapter
        self.loads += 1
        self._jobs.put((wanted.adapter, wanted.folder))

    def _load_forever(self) -> None:
        while True:
            adapter, folder = self._jobs.get()
            result: LoadedAdapter | AdapterError
            try:
                result = self._load(folder)
            except AdapterError as error:
                result = error
            except Exception as error:  # the thread must outlive any file it is given
                result = AdapterError(
                    "adapter_load_failed", f"The adapter could not be loaded: {type(error).__name__}."
                )
            self._done.put((adapter, result))
            self._wake()
