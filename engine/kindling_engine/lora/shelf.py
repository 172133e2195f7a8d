"""Adapters in the host's memory beneath a device's pool: a copy away from use, within a budget of their own."""

from collections.abc import Iterator

from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.policy import Worth


class HostShelf:
    """Keeps slabs that were read; a budget of 0 keeps none."""

    def __init__(self, budget_bytes: int, *, pinned: bool = False) -> None:
        """``pinned``: slabs are in pinned memory, of which torch hands out powers of two."""
        self.budget_bytes = budget_bytes
        self._pinned = pinned
        self._kept: dict[str, LoadedAdapter] = {}
        self._used_bytes = 0
        self._worth = Worth()

    def names(self) -> list[str]:
        return list(self._kept)

    def items(self) -> Iterator[tuple[str, LoadedAdapter]]:
        yield from self._kept.items()

    def get(self, adapter: str) -> LoadedAdapter | None:
        found = self._kept.get(adapter)
        if found is not None:
            self._worth.used(adapter, self._taken_bytes(found))
        return found

    def put(self, adapter: str, loaded: LoadedAdapter) -> None:
        """Keep an adapter, if all of the budget would hold it; others go for it."""
        size = self._taken_bytes(loaded)
        if adapter in self._kept or size > self.budget_bytes:
            return
        for other in self._worth.cheapest_first(list(self._kept)):
            if self._used_bytes + size <= self.budget_bytes:
                break
            self._used_bytes -= self._taken_bytes(self._kept.pop(other))
            self._worth.evicted(other)
        self._kept[adapter] = loaded
        self._used_bytes += size
        self._worth.used(adapter, size)

    def drop(self, adapter: str) -> LoadedAdapter | None:
        found = self._kept.pop(adapter, None)
        if found is not None:
            self._used_bytes -= self._taken_bytes(found)
            self._worth.forgotten(adapter)
        return found

    def _taken_bytes(self, loaded: LoadedAdapter) -> int:
        size = loaded.weights.size_bytes
        return 1 << (size - 1).bit_length() if self._pinned and loaded.packed is not None else size
