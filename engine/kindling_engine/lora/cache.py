"""Adapters in memory: within a byte budget, pinned while in use, loaded on a thread ahead of the room they need.

A caller asks with a ticket of its own and is told at once, or later through ``poll``, that the adapter is there and
pinned for it. The thread reads one adapter after the other, in the order in which they are waited for. What it has read
waits for room, so that the adapters behind do not wait for the disk as well. Room comes from adapters that nobody uses.
The step loop never waits for a load.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.fetching import BlobFetcher
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.loading import LoaderThread, LoadFunction, Result
from kindling_engine.lora.room import AdapterRoom, size_of
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.lora.shelf import HostShelf
from kindling_engine.lora.stores import AdapterStore, LooseStore
from kindling_engine.protocol.adapter_report import FETCH_FAILED

_STARVED_AFTER_S = 2.0
_MOST_FAILED = 256
_READ_AHEAD = 4
"""Of the budget, one part in so many may wait for room; those that are being read may always."""
_READ_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class AdapterPlace:
    """``tier`` is top, host, disk or store, and ``state`` ready, arriving, loading, fetching or failed."""

    adapter: str
    state: str
    tier: str
    loaded: LoadedAdapter | None = None
    pins: int = 0
    kept: bool = False
    borrowed_blocks: int = 0
    reason: str = ""


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

    def __init__(
        self,
        *,
        budget_bytes: int,
        load: LoadFunction,
        wake: Callable[[], None],
        store: AdapterStore | None = None,
        host_bytes: int = 0,
        scratch: SlabScratch | None = None,
        fetcher: BlobFetcher | None = None,
    ) -> None:
        """``host_bytes``: of the tier between ``store`` and the disk, where there is one.

        ``scratch``: what was read once is read from there. ``fetcher`` brings what is not on this disk.
        """
        self.budget_bytes = budget_bytes
        self._store: AdapterStore = LooseStore() if store is None else store
        self._shelf = HostShelf(host_bytes, pinned=self._store.pinned)
        self._room = AdapterRoom(budget_bytes, self._store)
        self._waiting: list[_Waiting] = []
        self._staged: OrderedDict[str, LoadedAdapter] = OrderedDict()
        self._loading: set[str] = set()
        self._failed: OrderedDict[str, AdapterPlace] = OrderedDict()
        self._unloaded: set[str] = set()
        self.loads = 0
        self._no_room_since_s: float | None = None
        self._loader = LoaderThread(load, self._store, wake=wake, scratch=scratch, fetcher=fetcher)

    @property
    def waiting(self) -> int:
        """Tickets without an answer."""
        return len(self._waiting)

    @property
    def fetches(self) -> tuple[int, int]:
        """Times that files were asked for which were not on this disk, and of those the ones that failed."""
        return self._loader.fetches, self._loader.fetch_failures

    @property
    def evictions(self) -> int:
        return self._room.evictions

    @property
    def lacks_room(self) -> int:
        """Bytes of adapters that were read and are kept waiting by others in use, 1 if none was read yet; 0 when
        there is room.
        """
        if self._no_room_since_s is None:
            return 0
        return sum(map(size_of, self._staged.values())) or 1

    def weights(self, adapter: str) -> AdapterWeights:
        """Weights of a pinned adapter."""
        return self._room.entries[adapter].weights

    def get(self, adapter: str) -> LoadedAdapter | None:
        entry = self._room.entries.get(adapter)
        return None if entry is None else entry.loaded

    def size_bytes(self, adapter: str) -> int:
        """Of an adapter in memory; 0 for others."""
        entry = self._room.entries.get(adapter)
        return 0 if entry is None else size_of(entry.loaded)

    def uses(self, adapter: str) -> int:
        """Pins of an adapter."""
        entry = self._room.entries.get(adapter)
        return 0 if entry is None else entry.pins

    def borrowed_blocks(self, adapter: str) -> int:
        """Blocks of the KV cache that an adapter lies in."""
        entry = self._room.entries.get(adapter)
        return 0 if entry is None else entry.borrowed_blocks

    def acquire(self, adapter: str, folder: Path, ticket: object, now_s: float) -> bool:
        """Pin an adapter for a ticket: True if it is there now, False if ``poll`` will tell."""
        self._unloaded.discard(adapter)
        self._failed.pop(adapter, None)
        if self._room.usable(adapter) and not self._starved(now_s):
            self._room.pin(adapter)
            return True
        self._waiting.append(_Waiting(adapter, folder, ticket))
        self._advance(now_s)
        return False

    def queue(self, adapter: str, folder: Path, ticket: object) -> None:
        """As ``acquire`` behind all that wait, though the adapter may be there: it has just given its room away."""
        self._waiting.append(_Waiting(adapter, folder, ticket))

    def withdraw(self, ticket: object) -> bool:
        """Drop a ticket that still waits; False if it does not."""
        before = len(self._waiting)
        self._waiting = [item for item in self._waiting if item.ticket is not ticket]
        return len(self._waiting) < before

    def release(self, adapter: str) -> None:
        """Drop one pin."""
        self._room.release(adapter)
        if not self.uses(adapter) and adapter in self._unloaded:
            self._forget(adapter)
        self._room.evict()

    def keep(self, adapter: str, kept: bool) -> bool:
        """Let an adapter in memory stay there though nobody uses it, or no longer; False if it is not there."""
        entry = self._room.entries.get(adapter)
        if entry is not None:
            entry.kept = kept
            self._room.evict()
        return entry is not None

    def unload(self, adapter: str) -> bool:
        """Take an adapter out of every tier in memory, as soon as nobody uses it; False if it was in none."""
        self._loader.forget(adapter)
        known = self._shelf.drop(adapter) is not None
        known |= self._staged.pop(adapter, None) is not None
        known |= self._failed.pop(adapter, None) is not None
        entry = self._room.entries.get(adapter)
        if entry is None:
            coming = adapter in self._loading or any(item.adapter == adapter for item in self._waiting)
            if coming:
                self._unloaded.add(adapter)
            return known or coming
        entry.kept = False
        if entry.pins:
            self._unloaded.add(adapter)
        else:
            self._drop(adapter)
        return True

    def clear(self) -> int:
        """Take every adapter that nobody uses out of memory; how many there were."""
        idle = [adapter for adapter, entry in self._room.entries.items() if not entry.pins]
        for adapter in idle:
            self._drop(adapter)
        for adapter in {*self._staged, *self._shelf.names()}:
            self._staged.pop(adapter, None)
            self._shelf.drop(adapter)
        return len(idle)

    def recall(self, blocks: int) -> int:
        """Give blocks back that adapters without users lie in, so many if there are; how many."""
        return self._room.recall(blocks)

    def borrowers(self) -> list[str]:
        """Adapters in use that lie in borrowed blocks, in the order in which they should give them back."""
        return self._room.borrowers()

    def vacate(self, adapter: str) -> None:
        """Give an adapter's blocks back when its users have stepped back; it then waits for room of its own."""
        self._room.vacate(adapter)

    def poll(self, now_s: float) -> list[Settled]:
        """Take in finished loads and settle the tickets they answer, oldest first."""
        settled: list[Settled] = []
        for adapter, result in self._loader.take():
            settled.extend(self._take_in(adapter, result))
        self._advance(now_s)
        starved = self._starved(now_s)
        still: list[_Waiting] = []
        for item in self._waiting:
            if self._room.usable(item.adapter) and not (starved and still):
                self._room.pin(item.adapter)
                settled.append(Settled(item.ticket, item.adapter))
            else:
                still.append(item)
        self._waiting = still
        return settled

    def states(self) -> list[tuple[str, str, LoadedAdapter | None, int]]:
        """``(adapter, state, loaded, pins)`` of every adapter in the top tier or on its way there."""
        return [
            (place.adapter, place.state, place.loaded, place.pins)
            for place in self.places()
            if place.state != "failed" and (place.tier == "top" or place.state in ("loading", "fetching"))
        ]

    def places(self) -> Iterator[AdapterPlace]:
        """Every adapter that is in some memory, on its way there, or has failed to come, a bounded number."""
        ready = self._room.entries
        for name, entry in ready.items():
            state = "ready" if self._store.arrived(entry.weights) else "arriving"
            yield AdapterPlace(
                name, state, "top", entry.loaded, entry.pins, entry.kept, entry.borrowed_blocks
            )
        for name, loaded in self._shelf.items():
            if name not in ready:
                yield AdapterPlace(name, "ready", "host", loaded)
        pending = {item.adapter for item in self._waiting} | self._staged.keys()
        pending |= self._loading
        for name in sorted(pending - ready.keys()):
            if name in self._loader.fetching:
                yield AdapterPlace(name, "fetching", "store")
            else:
                yield AdapterPlace(name, "loading", "host" if name in self._staged else "disk")
        for name, place in self._failed.items():
            if name not in pending:
                yield place

    # Helpers, in call order.

    def _starved(self, now_s: float) -> bool:
        """Whether a load has found no room for long. Newcomers then queue behind it, hot adapters included,
        or they would keep it out for ever; a load that is merely slow holds nobody up.
        """
        since_s = self._no_room_since_s
        return since_s is not None and now_s - since_s > _STARVED_AFTER_S

    def _take_in(self, adapter: str, result: Result) -> list[Settled]:
        self._loading.discard(adapter)
        if adapter in self._unloaded and all(item.adapter != adapter for item in self._waiting):
            self._forget(adapter)
            return []
        if isinstance(result, AdapterError):
            return self._fail(adapter, result)
        self._staged[adapter] = result
        return []

    def _fail(self, adapter: str, error: AdapterError) -> list[Settled]:
        tier = "store" if error.code == FETCH_FAILED else "disk"
        self._failed[adapter] = AdapterPlace(adapter, "failed", tier, reason=error.message)
        self._unloaded.discard(adapter)
        if len(self._failed) > _MOST_FAILED:
            self._failed.popitem(last=False)
        failed = [item for item in self._waiting if item.adapter == adapter]
        self._waiting = [item for item in self._waiting if item.adapter != adapter]
        return [Settled(item.ticket, adapter, error) for item in failed]

    def _advance(self, now_s: float) -> None:
        """Give what was read a place, as far as there is room, and let the thread read on."""
        line = list(dict.fromkeys(item.adapter for item in self._waiting))
        # What is on its way to this disk lacks no room, however long that takes, and keeps nobody waiting.
        away = {*self._room.entries, *self._loader.fetching.copy()}
        wanted = [adapter for adapter in line if adapter not in away]
        for adapter in wanted:
            shelved = self._shelf.get(adapter)
            if shelved is not None and adapter not in self._staged:
                self._staged[adapter] = shelved
        lacking = False
        for adapter in [name for name in wanted if name in self._staged]:
            # Those ahead in the line have their room, though they are not pinned yet.
            ahead = set(line[: line.index(adapter)])
            lacking = not self._place(adapter, self._staged[adapter], ahead)
            if lacking:
                # Those behind it must not take the room that it waits for.
                break
            del self._staged[adapter]
        left = any(name not in self._room.entries for name in wanted)
        lacking |= left and self._room.full()
        if not lacking:
            self._place_unwanted(set(line))
            self._no_room_since_s = None
        elif self._no_room_since_s is None:
            self._no_room_since_s = now_s
        self._room.forget_unwanted(set(line))
        self._read_next(wanted)

    def _place_unwanted(self, wanted: set[str]) -> None:
        """What nobody waits for any more takes room that is free, and nobody else's."""
        for adapter in [name for name in self._staged if name not in wanted]:
            loaded = self._staged.pop(adapter)
            if adapter in self._unloaded:
                self._forget(adapter)
                continue
            fits = self._room.used_bytes + size_of(loaded) <= self.budget_bytes
            if not fits or not self._place(adapter, loaded, wanted, borrow=False):
                self._shelf.put(adapter, loaded)

    def _place(self, adapter: str, loaded: LoadedAdapter, spared: set[str], *, borrow: bool = True) -> bool:
        placed = self._room.place(adapter, loaded, spared, borrow=borrow)
        if placed:
            self._shelf.put(adapter, loaded)
        return placed

    def _drop(self, adapter: str) -> None:
        if adapter in self._room.entries:
            self._room.drop(adapter)

    def _forget(self, adapter: str) -> None:
        """Of one that was unloaded while it was on its way or in use: what tiers have kept of it meanwhile."""
        self._unloaded.discard(adapter)
        self._shelf.drop(adapter)
        self._loader.forget(adapter)
        self._drop(adapter)

    def _read_next(self, wanted: list[str]) -> None:
        """Keep the thread busy: it reads on while the step runs that this is said in front of."""
        staged = sum(map(size_of, self._staged.values()))
        if self._staged and staged >= self.budget_bytes // _READ_AHEAD:
            return
        folders = {item.adapter: item.folder for item in reversed(self._waiting)}
        for adapter in wanted:
            if len(self._loading - self._loader.fetching) >= _READ_AT_ONCE:
                return
            if not any(adapter in tier for tier in (self._loading, self._staged, self._room.entries)):
                self._loading.add(adapter)
                self.loads += 1
                self._loader.read(adapter, folders[adapter])
