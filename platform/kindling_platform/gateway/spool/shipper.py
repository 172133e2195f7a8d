"""Carries what the spool holds into Postgres, within 50 ms of its writing or 500 at a time; then moves the mark."""

import asyncio

from kindling_platform.common.crash_points import crash_point
from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.database import Database, DatabaseUnavailableError
from kindling_platform.gateway.spool.files import SpoolFiles
from kindling_platform.gateway.spool.rows import INSERT, insert_values, row_of

BATCH = 500
WITHIN_S = 0.05
RETRY_S = (0.2, 0.5, 1.0, 2.0)


class Shipper:
    """One loop per process; what cannot be shipped stays in the spool."""

    def __init__(self, files: SpoolFiles, database: Database, log: Log) -> None:
        self._files = files
        self._database = database
        self._log = log
        self._waiting = 0
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

    def note(self) -> None:
        """Another request has ended."""
        self._waiting += 1
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
        """Ship everything there is; False when Postgres did not take it."""
        while self._waiting:
            frames, position = self._files.read(limit=BATCH)
            if frames:
                values = insert_values(self._files.folder.name, map(row_of, frames))
                try:
                    await self._database.rows(INSERT, values)
                except DatabaseUnavailableError as error:
                    self._failures += 1
                    self._log.warning("usage_not_shipped", waiting=self._waiting, error=str(error))
                    return False
                crash_point("ship.inserted")
            self._failures = 0
            self._files.advance(position)
            crash_point("ship.marked")
            self._waiting = max(0, self._waiting - len(frames))
            if not frames:
                self._waiting = 0
        return True
