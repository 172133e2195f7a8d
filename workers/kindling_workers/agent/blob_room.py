"""Keeps the adapters on this disk within a bound, where they are in the object store as well and can come again.

Who was used the longest ago goes first. What an engine uses or waits for stays, what was used a moment ago, and
whatever the store does not have whole.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from kindling_engine.protocol.ipc import AdapterState
from kindling_platform.common.objectstore.blobs import blob_found
from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.errors import StoreError
from kindling_platform.common.objectstore.local import GONE, is_blob, names_locked
from kindling_workers.http import HttpUnreachable, http_call

# An engine that has just found a folder still reads it.
IDLE_S = 600.0
# The store is asked about so many folders in one go, and about one that it does not have not again for a while.
MOST_ASKED = 200
UNSTORED_KEPT_S = 600.0
ENGINE_TIMEOUT_S = 5.0
COMING = ("arriving", "loading", "fetching")
log = structlog.get_logger("kindling.agent")


class _Adapters(msgspec.Struct):
    adapters: list[AdapterState]


@dataclass(frozen=True, slots=True, order=True)
class _Folder:
    used_at: float
    path: Path
    size_bytes: int


class BlobRoom:
    """`most_bytes` 0 is no bound. Any thread may call it; one works at a time."""

    def __init__(self, store: ObjectStore, blobs: Path, most_bytes: int) -> None:
        self._store = store
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._unstored: dict[str, float] = {}

    def make(self, engines: Sequence[str], needed_bytes: int = 0) -> int:
        """Take folders away until there is room for so many bytes more within the bound; gives how many went.

        Nothing goes while an engine does not say what it uses, or the store does not answer: the bound has to wait.
        """
        if not self._most_bytes:
            return 0
        with self._lock:
            folders = sorted(_folders(self._blobs))
            over = sum(folder.size_bytes for folder in folders) + needed_bytes - self._most_bytes
            try:
                used = _used(engines)
                for folder in folders:
                    if folder.path.name in used:
                        with suppress(OSError):
                            os.utime(folder.path)
                return self._take_away([one for one in folders if one.path.name not in used], over)
            except (HttpUnreachable, msgspec.DecodeError) as error:
                log.warning("agent.blobs_not_trimmed", reason=f"An engine does not say what it uses: {error}")
            except StoreError as error:
                log.warning("agent.blobs_not_trimmed", reason=error.message, detail=error.detail)
        return 0

    def _take_away(self, folders: list[_Folder], over: int) -> int:
        gone, asked = 0, 0
        for folder in folders:
            if over <= 0 or asked >= MOST_ASKED or time.time() - folder.used_at < IDLE_S:
                break
            if time.monotonic() < self._unstored.get(folder.path.name, 0.0):
                continue
            asked += 1
            if blob_found(self._store, folder.path.name) is None:
                self._unstored[folder.path.name] = time.monotonic() + UNSTORED_KEPT_S
            elif _removed(folder):
                over -= folder.size_bytes
                gone += 1
        if gone:
            log.info("agent.blobs_trimmed", folders=gone)
        return gone


def _folders(blobs: Path) -> Iterator[_Folder]:
    if not blobs.is_dir():
        return
    for path in filter(is_blob, blobs.iterdir()):
        # Others take folders away as well.
        with suppress(OSError):
            sizes = sum(file.stat().st_size for file in path.iterdir())
            yield _Folder(path.stat().st_mtime, path, sizes)


def _used(engines: Sequence[str]) -> set[str]:
    used: set[str] = set()
    for url in engines:
        answer = http_call("GET", f"{url}/lora", timeout_s=ENGINE_TIMEOUT_S)
        if answer.status != 200:
            raise HttpUnreachable(f"status {answer.status}")
        found = msgspec.json.decode(answer.body, type=_Adapters).adapters
        used |= {one.adapter for one in found if one.in_use or one.pinned or one.state in COMING}
    return used


def _removed(folder: _Folder) -> bool:
    """Take its name away first, so that nobody finds half of it; who has used it meanwhile gets it back."""
    gone = folder.path.with_name(f"{GONE}{folder.path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    try:
        with names_locked(folder.path.parent):
            folder.path.rename(gone)
            if gone.stat().st_mtime != folder.used_at:
                gone.rename(folder.path)
                return False
    except OSError:
        return False
    shutil.rmtree(gone, ignore_errors=True)
    return True
