"""A small read-through cache: short life, one load per key at a time, old values while loads fail."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TTL_S = 1.0
# A value that is asked for when it is so old, in parts of its life, is loaded again before anybody has to wait. By
# chance, lest the values that one request needs are all loaded again under one later request.
RIPE = (0.6, 0.8)
PATIENCE_S = 0.15
FAILING_S = 5.0
STALE_S = 3600.0
LOAD_TIMEOUT_S = 2.5


class LoadFailedError(Exception):
    """The value is not cached and could not be loaded."""


@dataclass(slots=True)
class Entry(Generic[V]):
    """A value, when it was loaded, from when on it may be loaded anew, and from when on again after a failure."""

    value: V
    loaded_at: float
    ripe_at: float = 0.0
    retry_at: float = 0.0


class TtlCache(Generic[K, V]):
    """Values by key, each at most `ttl_s` old while loads work, and at most `stale_s` old while they fail.

    One that is in use is loaded anew in the background shortly before its time is over.

    A missing thing is ``None``. An old one is never served instead of an error, and only `missing` of them are kept,
    apart: whoever makes up names does not push out what there is.
    """

    def __init__(
        self,
        load: Callable[[K], Awaitable[V]],
        *,
        ttl_s: float = TTL_S,
        stale_s: float = STALE_S,
        size: int = 20_000,
        missing: int | None = None,
    ) -> None:
        self._load = load
        self._ttl_s = ttl_s
        self._stale_s = stale_s
        self._size = size
        self._most_missing = size if missing is None else missing
        self._entries: dict[K, Entry[V]] = {}
        self._missing: dict[K, Entry[V]] = {}
        self._loads: dict[K, asyncio.Task[V]] = {}
        self._failing_until = 0.0

    def fresh(self, key: K) -> Entry[V] | None:
        """The cached entry when it is young enough to be used without asking."""
        entry = self._entries.get(key) or self._missing.get(key)
        if entry is None:
            return None
        now = monotonic()
        if now - entry.loaded_at >= self._ttl_s:
            return None
        if now >= entry.ripe_at and now >= self._failing_until:
            self._start(key)
        return entry

    async def get(self, key: K) -> V:
        """The value; raises LoadFailedError when there is neither a usable value nor a working load."""
        return (await self.entry(key)).value

    async def entry(self, key: K, *, max_age_s: float | None = None) -> Entry[V]:
        """Like `get`, with the time of the load; `max_age_s` asks for a younger value than usual."""
        if max_age_s is None and (young := self.fresh(key)):
            return young
        now = monotonic()
        entry = self._entries.get(key) or self._missing.get(key)
        if entry and max_age_s is not None and now - entry.loaded_at < max_age_s:
            return entry
        usable = entry if entry and entry.value is not None else None
        if usable and now - usable.loaded_at > self._stale_s:
            usable = None
        if usable and now < usable.retry_at:
            return usable
        load = self._start(key)
        # While loads are known to fail nobody waits for one who has an old value to go on with.
        patience = LOAD_TIMEOUT_S if not usable else 0.0 if now < self._failing_until else PATIENCE_S
        await asyncio.wait({load}, timeout=patience)
        if load.done() and not load.cancelled() and load.exception() is None:
            return Entry(load.result(), monotonic())
        if usable:
            usable.retry_at = monotonic() + self._ttl_s
            self._failing_until = monotonic() + FAILING_S
            return usable
        raise LoadFailedError(str(load.exception()) if load.done() and not load.cancelled() else "timed out")

    def _start(self, key: K) -> asyncio.Task[V]:
        load = self._loads.get(key)
        if load is None:
            load = asyncio.create_task(self._run(key))
            self._loads[key] = load
            load.add_done_callback(lambda done: self._ended(key, done))
        return load

    async def _run(self, key: K) -> V:
        started = monotonic()
        value = await self._load(key)
        self._entries.pop(key, None)
        self._missing.pop(key, None)
        entries, most = (self._missing, self._most_missing) if value is None else (self._entries, self._size)
        ripe_at = started + self._ttl_s * random.uniform(*RIPE)  # noqa: S311
        entries[key] = Entry(value, started, ripe_at)
        if len(entries) > most:
            del entries[next(iter(entries))]
        return value

    def _ended(self, key: K, load: asyncio.Task[V]) -> None:
        self._loads.pop(key, None)
        failed = load.cancelled() or load.exception() is not None
        self._failing_until = monotonic() + FAILING_S if failed else 0.0
