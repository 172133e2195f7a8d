"""Where each replica keeps which adapters; asked in the background, so that no request waits to know."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

EVERY_S = 2.0
MOST_REPLICAS = 4_096
# How far an adapter is from being used; the last is that of one a replica does not know.
TIERS = {"device": 0, "host": 1, "disk": 2}
NOWHERE = 3

AdaptersOf = Callable[[str], Awaitable[dict[str, str]]]


async def none_known(_url: str) -> dict[str, str]:
    """For a router that asks nobody."""
    return {}


class AdapterTiers:
    """What `GET /lora` of each replica has said last; asked again at a request when it is older than two seconds."""

    def __init__(self, adapters_of: AdaptersOf) -> None:
        self._adapters_of = adapters_of
        self._known: dict[str, dict[str, str]] = {}
        self._asked_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def distance(self, url: str, adapter: str) -> int:
        """0 where the adapter lies on the device, more the further away it is."""
        if monotonic() - self._asked_at.get(url, -EVERY_S) >= EVERY_S:
            self._ask_soon(url)
        return TIERS.get(self._known.get(url, {}).get(adapter, ""), NOWHERE)

    def _ask_soon(self, url: str) -> None:
        if len(self._asked_at) >= MOST_REPLICAS:
            self._asked_at.clear()
            self._known.clear()
        self._asked_at[url] = monotonic()
        task = asyncio.create_task(self._ask(url))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, url: str) -> None:
        self._known[url] = await self._adapters_of(url)
