"""The gateway's durable memory: a spool, what brings it to the disk and to Postgres, and what dead siblings left."""

import asyncio
from collections import deque
from pathlib import Path
from uuid import UUID

import msgspec

from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.database import DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.scribe import Scribe
from kindling_platform.gateway.spool.files import (
    CAP_BYTES,
    MIN_FREE_BYTES,
    SpoolFiles,
    SpoolFullError,
    sync,
)
from kindling_platform.gateway.spool.folder import SpoolFolder, folders_abandoned
from kindling_platform.gateway.spool.frames import SHIPPED, Kind
from kindling_platform.gateway.spool.replay import folder_replay
from kindling_platform.gateway.spool.rows import VERDICTS, Row
from kindling_platform.gateway.spool.shipper import Shipper

FOLDER = "spool"
SYNC_EVERY_S = 0.2
LOOK_EVERY_S = 5.0
LAST_SHIPPING_S = 4.0
MOST_OWED = 100_000


class Metering:
    """Writes what requests use before anybody is told, and keeps what is written on its way to the books."""

    def __init__(
        self,
        home: Path,
        database: Scribe,
        log: Log,
        *,
        sync_every_s: float = SYNC_EVERY_S,
        look_every_s: float = LOOK_EVERY_S,
        cap_bytes: int = CAP_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self._root = home / FOLDER
        self._database = database
        self._log = log
        self._sync_every_s = sync_every_s
        self._look_every_s = look_every_s
        self._cap_bytes = cap_bytes
        self._min_free_bytes = min_free_bytes
        self._files: SpoolFiles | None = None
        self._shipper: Shipper | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._owed: deque[tuple[Kind, UUID, bytes]] = deque(maxlen=MOST_OWED)

    def open(self) -> None:
        """Begin a spool of this process. Errors: OSError."""
        self._files = SpoolFiles(self._root, cap_bytes=self._cap_bytes, min_free_bytes=self._min_free_bytes)
        self._shipper = Shipper(self._files, self._database, self._log)
        self._shipper.start()
        self._keepers = [asyncio.create_task(self._sync()), asyncio.create_task(self._look())]

    async def close(self) -> None:
        """Ship what is left, for a few seconds; what is not taken stays for the next process to ship."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        if self._files is None or self._shipper is None:
            return
        self._pay(self._files)
        if not await self._shipper.stop(within_s=LAST_SHIPPING_S):
            self._log.warning("usage_left_in_spool", waiting=self._shipper.waiting)
        self._files.close()
        self._files = None

    @property
    def waiting(self) -> int:
        """Requests that have ended and are not in Postgres yet."""
        return self._shipper.waiting if self._shipper else 0

    @property
    def size_bytes(self) -> int:
        return self._files.size_bytes if self._files else 0

    @property
    def has_room(self) -> bool:
        """Whether another request can be recorded."""
        try:
            self._open_files().check_room()
        except SpoolFullError:
            return False
        return True

    def begin(self, request_id: UUID, data: bytes) -> None:
        """Record that a request goes to an engine. Errors: 503 `spool_full`, and nothing may be sent then."""
        files = self._open_files()
        try:
            files.check_room()
            files.append(Kind.OPEN, request_id, data)
        except SpoolFullError as error:
            raise spool_full() from error

    def note(self, kind: Kind, request_id: UUID, data: bytes) -> None:
        """Record what became of a request. One that the disk does not take is kept here and tried again."""
        files = self._open_files()
        try:
            files.append(kind, request_id, data)
        except SpoolFullError:
            self._owed.append((kind, request_id, data))
            self._log.error("usage_not_spooled", request_id=str(request_id), waiting=len(self._owed))
            return
        if kind in SHIPPED and self._shipper:
            self._shipper.note(Row(request_id, VERDICTS[kind], data))

    def _open_files(self) -> SpoolFiles:
        if self._files is None:
            raise spool_full()
        return self._files

    def _pay(self, files: SpoolFiles) -> None:
        while self._owed:
            kind, request_id, data = self._owed[0]
            try:
                files.append(kind, request_id, data)
            except SpoolFullError:
                return
            self._owed.popleft()
            if kind in SHIPPED and self._shipper:
                self._shipper.note(Row(request_id, VERDICTS[kind], data))

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(self._sync_every_s)
            files = self._files
            if files is None:
                return
            try:
                self._pay(files)
                if files.is_dirty:
                    await asyncio.to_thread(sync, files.take_unsynced())
            except OSError as error:
                self._log.error("spool_not_synced", error=str(error))

    async def _look(self) -> None:
        """Ship spools without an owner, at the start and then every few seconds."""
        while True:
            own = self._files.folder.name if self._files else ""
            try:
                for folder in folders_abandoned(self._root, but=own):
                    await self._replay(folder)
            except OSError as error:
                # Whatever it is (no descriptor left, a folder of another user), the next look may be spared it.
                self._log.error("spools_not_looked_for", error=str(error))
            await asyncio.sleep(self._look_every_s)

    async def _replay(self, folder: SpoolFolder) -> None:
        try:
            done = await folder_replay(folder, self._database)
        except (DatabaseUnavailableError, OSError, msgspec.MsgspecError) as error:
            self._log.warning("spool_not_replayed", folder=folder.name, error=str(error))
            folder.close()
        except BaseException:
            folder.close()
            raise
        else:
            self._log.info("spool_replayed", folder=folder.name, rows=done.rows)
            if done.damaged:
                self._log.error("spool_damaged", folder=folder.name, kept_aside=done.damaged)


def spool_full() -> GatewayError:
    """503 while nothing can be recorded: what is not recorded is not served."""
    message = "The platform cannot record usage at the moment, so it serves no requests. Try again shortly."
    return GatewayError(503, "spool_full", message, headers={"retry-after": "5"})
