"""Carries what the spool holds into Postgres, within 50 ms of its writing or 500 at a time; then moves the mark."""

import asyncio
from collections import deque

from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.scribe import Scribe
from kindling_platform.gateway.spool.files import SpoolFiles
from kindling_platform.gateway.spool.folder import Position
from kindling_platform.gateway.spool.rows import INSERT, Row, insert_values, row_of

BATCH = 500
WITHIN_S = 0.05
RETRY_S = (0.2, 0.5, 1.0, 2.0)
# So many rows are kept at hand; beyond them, and after a failure, they are read from the files again.
MOST_KEPT = 2_000


class Shipper:
    """One loop per process; what cannot be shipped stays in the spool."""

    def __init__(self, files: SpoolFiles, database: Scribe, log: Log) -> None:
        self._files = files
        self._database = database
        self._log = log
        self._waiting = 0
        self._kept: deque[tuple[Row, Position]] = deque()
        self._is_behind = False
        self._due = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._failures = 0
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Requests that have ended and are not in Postgres yet."""
        return self._waiting

    def start(self) -> None:
        self._loop_task = asyncio.create_task(self._run())

    def note(self, row: Row) -> None:
        """Another request has ended; its frame is the last one in the files."""
        self._waiting += 1
        if len(self._kept) >= MOST_KEPT:
            self._fall_behind()
        if not self._is_behind:
            self._kept.append((row, self._files.end))
        self._due.set()

    async def stop(self, *, within_s: float) -> bool:
        """Ship what is left, for at most so long; False when some of it stays in the spool."""
        self._stopping = True
        self._due.set()
        if self._loop_task:
            # Not cancelled while there is time: a query that is cancelled holds its connection for seconds.
            await asyncio.wait([self._loop_task], timeout=within_s)
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        return not self._waiting

    async def _run(self) -> None:
        while not self._stopping:
            await self._due.wait()
            if not self._stopping:
                await asyncio.sleep(WITHIN_S)
            self._due.clear()
            await self._ship_all()

    async def _ship_all(self) -> None:
        while not await self._ship():  # noqa: ASYNC110  # a poll of Postgres, which tells nobody when it is back
            await asyncio.sleep(RETRY_S[min(self._failures, len(RETRY_S)) - 1])

    async def _ship(self) -> bool:
        """Ship what there is; False when Postgres did not take it."""
        while self._waiting:
            rows, position = self._take()
            if rows:
                try:
                    await self._database.write(INSERT, insert_values(self._files.folder.name, rows))
                except DatabaseUnavailableError as error:
                    self._fall_behind()
                    self._failures += 1
                    self._log.warning("usage_not_shipped", waiting=self._waiting, error=str(error))
                    return False
                crash_point("ship.inserted")
            self._failures = 0
            self._files.advance(position)
            crash_point("ship.marked")
            self._waiting = max(0, self._waiting - len(rows))
            if not rows:
                self._waiting = 0
            if not (self._is_behind or self._stopping or self._waiting >= BATCH):
                break
        if self._waiting:
            self._due.set()  # what has ended meanwhile waits for company: each write costs Postgres a commit
        return True

    def _take(self) -> tuple[list[Row], Position]:
        """Up to a batch of rows, and the place before which none is left."""
        if self._is_behind:
            frames, position = self._files.read(limit=BATCH)
            self._is_behind = len(frames) == BATCH
            return [row_of(frame) for frame in frames], position
        taken = [self._kept.popleft() for _ in range(min(BATCH, len(self._kept)))]
        position = taken[-1][1] if self._kept else self._files.end
        return [row for row, _ in taken], position

    def _fall_behind(self) -> None:
        self._is_behind = True
        self._kept.clear()
