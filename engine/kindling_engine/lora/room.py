"""Which adapters lie in memory that steps read, who uses them, and which go when others need their place.

An adapter lies in the pool's own part, within a byte budget, or in blocks that the KV cache lends. It goes to the own
part if there is room, else to empty blocks, else to the place of adapters that nobody uses, and only then to blocks
that hold prefixes. Blocks are given back when requests call for them: at once if nobody uses the adapter, and else when
its users have stepped back. It then comes back to the own part, so that no request loses its adapter twice for blocks.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace

from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.policy import Worth
from kindling_engine.lora.stores import AdapterStore


@dataclass(slots=True)
class CachedAdapter:
    """An adapter in memory, the number of its users, and whether it stays without any."""

    loaded: LoadedAdapter
    weights: AdapterWeights
    pins: int = 0
    kept: bool = False

    @property
    def borrowed_blocks(self) -> int:
        return self.weights.borrowed_blocks


class AdapterRoom:
    """``entries`` by name, the least recently used first; ``used_bytes`` are those of the own part."""

    def __init__(self, budget_bytes: int, store: AdapterStore) -> None:
        self.budget_bytes = budget_bytes
        self.store = store
        self.entries: OrderedDict[str, CachedAdapter] = OrderedDict()
        self.used_bytes = 0
        self.evictions = 0
        self._worth = Worth()
        self._vacated: set[str] = set()
        self._own_only: set[str] = set()

    def usable(self, adapter: str) -> bool:
        """Whether a step may use it without a wait; with nothing running, a wait holds nobody up."""
        entry = self.entries.get(adapter)
        if entry is None or adapter in self._vacated:
            return False
        return self.store.arrived(entry.weights) or not any(one.pins for one in self.entries.values())

    def pin(self, adapter: str) -> None:
        entry = self.entries[adapter]
        entry.pins += 1
        self._worth.used(adapter, size_of(entry.loaded))
        self.entries.move_to_end(adapter)

    def release(self, adapter: str) -> None:
        """Drop one pin. Raises RuntimeError for one too many."""
        entry = self.entries[adapter]
        entry.pins -= 1
        if entry.pins < 0:
            raise RuntimeError("an adapter was released more often than it was acquired")
        if not entry.pins and adapter in self._vacated:
            self.drop(adapter, evicted=True)

    def full(self) -> bool:
        """Whether those in use leave no room for any other, and there is none to borrow."""
        pinned = sum(
            size_of(entry.loaded)
            for entry in self.entries.values()
            if entry.pins and not entry.borrowed_blocks
        )
        return pinned >= self.budget_bytes and not self.store.may_borrow()

    def place(self, adapter: str, loaded: LoadedAdapter, spared: set[str], *, borrow: bool = True) -> bool:
        """Give what was read a place; False if there is none. Those in ``spared`` stay though nobody uses them yet."""
        weights = self._find(adapter, loaded, spared, borrow=borrow and adapter not in self._own_only)
        if weights is None:
            return False
        # What lies in a pool is not kept twice.
        self.entries[adapter] = CachedAdapter(replace(loaded, packed=None), weights)
        if not weights.borrowed_blocks:
            self.used_bytes += size_of(loaded)
            self._own_only.discard(adapter)
        return True

    def evict(self) -> None:
        """Let go until the own part is within its budget again."""
        if self.used_bytes <= self.budget_bytes:
            return
        for adapter in self._worth.cheapest_first(self._idle(set(), borrowed=False)):
            if self.used_bytes <= self.budget_bytes:
                return
            self.drop(adapter, evicted=True)

    def drop(self, adapter: str, *, evicted: bool = False) -> None:
        entry = self.entries.pop(adapter)
        self._vacated.discard(adapter)
        if not entry.borrowed_blocks:
            self.used_bytes -= size_of(entry.loaded)
        self.store.remove(entry.weights)
        self.evictions += evicted
        (self._worth.evicted if evicted else self._worth.forgotten)(adapter)

    def recall(self, blocks: int) -> int:
        """Give back borrowed blocks of adapters that nobody uses, as many as that or all there are; how many.

        Those that are to stay go last, but they go: nobody reserves the cache by asking for an adapter to be kept.
        """
        idle = [name for name, entry in self.entries.items() if entry.borrowed_blocks and not entry.pins]
        given = 0
        for adapter in self._cheapest_first(idle):
            if given >= blocks:
                break
            given += self.entries[adapter].borrowed_blocks
            self.drop(adapter, evicted=True)
        return given

    def borrowers(self) -> list[str]:
        """Adapters in use that lie in borrowed blocks: those that have to go already, then those worth least."""
        names = [name for name, entry in self.entries.items() if entry.borrowed_blocks and entry.pins]
        return sorted(self._worth.cheapest_first(names), key=lambda name: name not in self._vacated)

    def vacate(self, adapter: str) -> None:
        """Nobody gets it any more where it lies; it goes with its last user, and comes back to the own part."""
        self._vacated.add(adapter)
        self._own_only.add(adapter)

    def forget_unwanted(self, wanted: set[str]) -> None:
        """What had to vacate and is neither here nor wanted any more is as any other."""
        if self._own_only:
            self._own_only &= wanted | self.entries.keys()

    # Helpers, in call order.

    def _find(
        self, adapter: str, loaded: LoadedAdapter, spared: set[str], *, borrow: bool
    ) -> AdapterWeights | None:
        """Room in the order of what it costs others."""
        size = size_of(loaded)
        weights = self._own_place(loaded)
        if weights is None and borrow:
            weights = self.store.borrow(loaded, cached=False)
        if weights is not None:
            return weights
        # Beside those that are to stay, others take turns; where these leave no room for it at all, they go last.
        kept_bytes = sum(size_of(entry.loaded) for _, entry in self._own() if entry.kept)
        idle = self._idle(spared, borrowed=False, kept=kept_bytes + size > self.budget_bytes)
        left = self.used_bytes - sum(size_of(self.entries[name].loaded) for name in idle)
        if left + size <= self.budget_bytes or len(idle) == len(self._own()):
            for victim in self._cheapest_first(idle):
                self.drop(victim, evicted=True)
                # Enough bytes may be free, and none of the gaps large enough.
                weights = self._own_place(loaded)
                if weights is not None:
                    return weights
        if not borrow:
            return None
        weights = self.store.borrow(loaded, cached=True)
        for victim in self._worth.cheapest_first(self._idle(spared, borrowed=True)):
            if weights is not None:
                break
            self.drop(victim, evicted=True)
            weights = self.store.borrow(loaded, cached=True)
        return weights

    def _own_place(self, loaded: LoadedAdapter) -> AdapterWeights | None:
        fits = self.used_bytes + size_of(loaded) <= self.budget_bytes or not self._own()
        return self.store.place(loaded) if fits else None

    def _own(self) -> list[tuple[str, CachedAdapter]]:
        return [(name, entry) for name, entry in self.entries.items() if not entry.borrowed_blocks]

    def _idle(self, spared: set[str], *, borrowed: bool, kept: bool = False) -> list[str]:
        """Those that nobody uses; with ``kept`` also those that are to stay."""
        return [
            name
            for name, entry in self.entries.items()
            if not (entry.pins or (entry.kept and not kept) or name in spared)
            and bool(entry.borrowed_blocks) == borrowed
        ]

    def _cheapest_first(self, idle: list[str]) -> list[str]:
        """Those that are to stay come last."""
        return sorted(self._worth.cheapest_first(idle), key=lambda name: self.entries[name].kept)


def size_of(loaded: LoadedAdapter) -> int:
    return loaded.weights.size_bytes
