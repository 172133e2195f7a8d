"""Keeps prompts and answers of the organisations that ask for it, beside their requests and never in their way.

What waits to be written has a bound in bytes; what finds no room there is not kept, and counted.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from kindling_platform.gateway.access_log import CLIENT_GONE, Log
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.database import Database, DatabaseUnavailableError
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.request_log.copy import Copy
from kindling_platform.gateway.request_log.rows import INSERT, WANTED, Row, insert_values
from kindling_platform.requestlog.seal import Seal

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MOST_BYTES = 32 * 1024 * 1024
BATCH = 20
WITHIN_S = 0.2
LOOK_EVERY_S = 2.0
TRIES = 3
RETRY_S = 1.0
LAST_WRITES_S = 2.0
PREFIX = "kindling_gateway_request_log"


@dataclass(frozen=True, slots=True)
class _Ended:
    copy: Copy
    request_id: str
    model_name: str
    status: int


class RequestLog:
    """`kept`, `dropped` and `refused` count requests: written; lost to a bound; not wanted any more when they ended."""

    def __init__(
        self,
        database: Database,
        secret: str,
        log: Log,
        *,
        most_bytes: int = MOST_BYTES,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self._database = database
        self._seal = Seal(secret)
        self._log = log
        self._most_bytes = most_bytes
        self._look_every_s = look_every_s
        self._queue: deque[_Ended] = deque()
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        # None until Postgres has told it; copies wait for that.
        self.wanted: frozenset[str] | None = None
        self.held_bytes = 0
        self.kept = self.dropped = self.refused = 0

    def open(self) -> None:
        """Start looking who wants a log, and writing."""
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._write())]

    async def close(self) -> None:
        """Write what is left, for at most two seconds."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITES_S):
                await self._write_all()
        for _ in range(len(self._queue)):
            self._drop(self._queue.popleft().copy)

    def begin(self, request: Request, caller: Caller, *, route: str, body: bytes) -> None:
        """Copy what the client sends and gets from here on, if its organisation wants that."""
        if self.wanted is not None and caller.org_id not in self.wanted:
            return
        copy = Copy(body, org_id=caller.org_id, key_id=caller.key_id, route=route, room=self._has_room)
        request.copy = copy
        request.tap(copy.begin, copy.hear)

    def end(self, copy: Copy, request: Request) -> None:
        """The request has ended: have its copy written."""
        if copy.lost:
            self._drop(copy)
            return
        if request.facts.get("replayed"):  # the answer of an earlier request, which was kept as that
            self.held_bytes -= copy.bytes
            return
        model = str(request.facts.get("model", ""))[:160]
        self._queue.append(_Ended(copy, request.id, model, request.status or CLIENT_GONE))
        self._due.set()

    def metrics(self) -> Iterator["Metric"]:
        """What became of copies, and the memory that they take; nothing where nobody has asked for a log."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        outcomes = {"kept": self.kept, "dropped": self.dropped, "refused": self.refused}
        if not self.wanted and not any(outcomes.values()):
            return
        text = "Requests of which prompt and answer were to be kept."
        family = CounterMetricFamily(f"{PREFIX}_requests", text, labels=["outcome"])
        for outcome, count in outcomes.items():
            family.add_metric([outcome], count)
        yield family
        text = "Memory of what is not written yet."
        yield GaugeMetricFamily(f"{PREFIX}_bytes", text, value=self.held_bytes)

    def _has_room(self, size: int) -> bool:
        if self.held_bytes + size > self._most_bytes:
            return False
        self.held_bytes += size
        return True

    async def _look(self) -> None:
        while True:
            with suppress(DatabaseUnavailableError):
                rows = await self._database.rows(WANTED, [])
                was_unknown = self.wanted is None
                self.wanted = frozenset(row["organisation_id"] for row in rows)
                if was_unknown:
                    self._forget_unwanted(self.wanted)
                    self._due.set()
            await asyncio.sleep(self._look_every_s)

    async def _write(self) -> None:
        while True:
            await self._due.wait()
            await asyncio.sleep(WITHIN_S)
            self._due.clear()
            if self.wanted is not None:
                await self._write_all()

    async def _write_all(self) -> None:
        while self._queue:
            batch = [self._queue[place] for place in range(min(BATCH, len(self._queue)))]
            kept = await self._keep(batch)
            for ended in batch:
                self._queue.popleft()
                self.held_bytes -= ended.copy.bytes
            if kept is None:
                self.dropped += len(batch)
                self._log.warning("requests_not_logged", requests=len(batch))
            else:
                self.kept += kept
                self.refused += len(batch) - kept

    async def _keep(self, batch: list[_Ended]) -> int | None:
        """Write a batch; gives how many rows were wanted, None when Postgres took none."""
        values = insert_values(await asyncio.to_thread(self._sealed, batch))
        for left in reversed(range(TRIES)):
            try:
                return len(await self._database.rows(INSERT, values))
            except DatabaseUnavailableError:
                if left:
                    await asyncio.sleep(RETRY_S)
        return None

    def _sealed(self, batch: list[_Ended]) -> list[Row]:
        return [self._row(ended) for ended in batch]

    def _row(self, ended: _Ended) -> Row:
        copy, request_id = ended.copy, UUID(ended.request_id)
        return Row(
            request_id=request_id,
            organisation_id=copy.org_id,
            key_id=copy.key_id,
            model_name=ended.model_name,
            route=copy.route,
            status=ended.status,
            size_bytes=copy.bytes,
            sealed=self._seal.close(copy.said(), org_id=copy.org_id, request_id=request_id),
            created_at=datetime.fromtimestamp(copy.at_s, UTC),
        )

    def _forget_unwanted(self, wanted: frozenset[str]) -> None:
        ended, self._queue = self._queue, deque()
        for one in ended:
            if one.copy.org_id in wanted:
                self._queue.append(one)
            else:
                self.held_bytes -= one.copy.bytes

    def _drop(self, copy: Copy) -> None:
        self.held_bytes -= copy.bytes
        self.dropped += 1
