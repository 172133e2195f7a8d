"""Brings adapters from the object store to this disk when an engine asks for them: each once, whoever asks.

The engines themselves have neither the credentials nor the library for it.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from kindling_platform.common.objectstore.blobs import blob_fetch
from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.errors import AWAY, StoreError
from kindling_workers.agent.blob_room import BlobRoom

AT_ONCE = 4
TRIM_EVERY_S = 30.0
# What has failed fails again without a try for a while, longer each time.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
# For all of them, when nobody answered for one.
AWAY_PAUSE_S = 3.0
MOST_FAILED = 1_000
log = structlog.get_logger("kindling.agent")
Engines = Callable[[], Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: StoreError
    times: int
    until: float


class BlobSource:
    """On the agent's event loop; the work is done by threads. `engines` gives the URLs of those that run."""

    def __init__(self, store: ObjectStore, blobs: Path, room: BlobRoom, engines: Engines) -> None:
        self._store = store
        self._blobs = blobs
        self._room = room
        self._engines = engines
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, _Failure] = {}
        self._away: _Failure | None = None
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="blob-source")

    async def bring(self, content_hash: str) -> None:
        """Return when the folder is there. Errors: `StoreError`."""
        task = self._coming.get(content_hash)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._bring(content_hash))
            self._coming[content_hash] = task
            task.add_done_callback(partial(self._ended, content_hash))
        # Whoever leaves takes it from nobody else.
        await asyncio.shield(task)

    async def trim(self) -> None:
        """Keep the disk within its bound, for as long as this runs."""
        while True:
            await asyncio.sleep(TRIM_EVERY_S)
            engines = self._engines()
            await asyncio.get_running_loop().run_in_executor(None, self._room.make, engines)

    def close(self) -> None:
        """What is on its way ends soon, and leaves nothing."""
        self._stop.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _bring(self, content_hash: str) -> None:
        self._check_pause(content_hash)
        work = partial(self._fetch, content_hash, self._engines())
        try:
            await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except StoreError as error:
            log.warning(
                "agent.fetch_failed",
                adapter=content_hash,
                code=error.code,
                reason=error.message,
                detail=error.detail,
            )
            self._note(content_hash, error)
            raise
        self._failures.pop(content_hash, None)
        self._away = None

    def _fetch(self, content_hash: str, engines: Sequence[str]) -> None:
        if (self._blobs / content_hash).is_dir():
            return
        started = time.monotonic()
        try:
            size = blob_fetch(
                self._store,
                content_hash,
                self._blobs,
                room=partial(self._room.make, engines),
                is_stopped=self._stop.is_set,
            )
        except OSError as error:
            text = "The disk of this host does not take these files."
            raise StoreError(AWAY, f"errno {error.errno}", text) from error
        log.info(
            "agent.fetched", adapter=content_hash, bytes=size, ms=round((time.monotonic() - started) * 1000)
        )

    def _check_pause(self, content_hash: str) -> None:
        for failure in (self._failures.get(content_hash), self._away):
            if failure is not None and time.monotonic() < failure.until:
                raise StoreError(failure.error.code, failure.error.detail, failure.error.message)

    def _note(self, content_hash: str, error: StoreError) -> None:
        before = self._failures.get(content_hash)
        times = 1 if before is None else before.times + 1
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(times - 1, 10))
        if len(self._failures) >= MOST_FAILED:
            self._failures.clear()
        self._failures[content_hash] = _Failure(error, times, time.monotonic() + pause_s)
        if error.code == AWAY:
            self._away = _Failure(error, 1, time.monotonic() + AWAY_PAUSE_S)

    def _ended(self, content_hash: str, task: "asyncio.Task[None]") -> None:
        self._coming.pop(content_hash, None)
        if not task.cancelled():
            task.exception()  # looked at, though all who asked may have left
