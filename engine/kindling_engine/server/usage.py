"""Writes one usage record per request, and brings the log to the disk soon after."""

import asyncio
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kindling_engine.protocol.usage_log import UsageLogWriter, UsageRecord
from kindling_engine.server.errors import engine_unavailable
from kindling_engine.server.metrics import EngineMetrics

logger = logging.getLogger(__name__)

# What a power loss may cost at most.
SYNC_WITHIN_S = 0.2
MIN_FREE_BYTES = 64 * 1024 * 1024


def now_ms() -> int:
    return int(time.time() * 1000)


class UsageBook:
    """The usage log of this replica."""

    def __init__(self, path: Path, replica: str) -> None:
        self.replica = replica
        self.metrics = EngineMetrics()
        self._writer = UsageLogWriter(path)
        self._sync: asyncio.TimerHandle | None = None
        # Of its own: whatever keeps the other threads busy, a record does not wait for them.
        self._syncing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="usage")

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return self._writer.path

    def check_room(self) -> None:
        """Errors: `engine_unavailable` when the disk is so full that a record might not find room."""
        disk = os.statvfs(self.path.parent)
        if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
            logger.error("the disk of the usage log is full")
            raise engine_unavailable("This replica has no room left on its disk to record usage.")

    def append(self, record: UsageRecord) -> None:
        """Hand a record to the operating system before returning. Raises UsageLogError."""
        self._writer.append(record)
        self.metrics.observe(record)
        if self._sync is None:
            self._sync = asyncio.get_running_loop().call_later(SYNC_WITHIN_S, self._start_sync)

    def close(self) -> None:
        if self._sync:
            self._sync.cancel()
        self._syncing.shutdown()
        self._writer.close()

    def _start_sync(self) -> None:
        self._sync = None
        asyncio.get_running_loop().run_in_executor(self._syncing, self._writer.sync)
