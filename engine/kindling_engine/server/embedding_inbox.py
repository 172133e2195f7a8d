"""Where the vectors of one call arrive, in whatever order the core makes them."""

import asyncio
from collections.abc import Iterable

from kindling_engine.protocol.ipc import Embedded


class EmbeddingInbox:
    """Collects the answers to texts by id; an error counts as the end of the waiting."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.open = set(ids)
        self.answers: dict[str, Embedded] = {}
        self.failed: Embedded | None = None
        self._settled = asyncio.Event()
        self._failed = asyncio.Event()

    def push(self, answer: Embedded) -> None:
        if answer.id not in self.open:
            return
        self.open.remove(answer.id)
        self.answers[answer.id] = answer
        if answer.finish != "stop" and self.failed is None:
            self.failed = answer
        if self.failed is not None:
            self._failed.set()
        if not self.open:
            self._failed.set()
            self._settled.set()

    async def ready(self) -> Embedded | None:
        """Wait for every vector; the first answer that is none ends the wait and is returned."""
        await self._failed.wait()
        return self.failed

    async def settled(self) -> None:
        """Wait for the last word about every text."""
        await self._settled.wait()
