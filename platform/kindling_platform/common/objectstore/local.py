"""Folders on this host that several processes give names to and take them away from; free of Django."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kindling_platform.common.objectstore.errors import DISK_FULL, StoreError

LOCK, STORE_LOCK = ".lock", ".store.lock"
PARTIAL = ".adp_fetch_"
GONE = ".adp_gone_"
HASH_LENGTH = 64
SPARE_BYTES = 256 * 2**20
POLL_S = 0.05


@contextmanager
def names_locked(blobs: Path) -> Iterator[None]:
    """Be the only one who gives a blob its name or takes it away; for moments."""
    blobs.mkdir(parents=True, exist_ok=True)
    with (blobs / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def puts_locked(blobs: Path) -> Iterator[None]:
    """While this is held nothing is deleted in the store; many may hold it at once."""
    blobs.mkdir(parents=True, exist_ok=True)
    with (blobs / STORE_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def deletion_locked(blobs: Path, *, within_s: float) -> Iterator[bool]:
    """Whether nothing is put into the store and nothing will be, for moments; False if that was not so in time."""
    deadline = time.monotonic() + within_s
    with (blobs / STORE_LOCK).open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(POLL_S)
                continue
            yield True
            return


def is_blob(path: Path) -> bool:
    """Whether this is an adapter's folder by its name; others in it are copies under way."""
    return len(path.name) == HASH_LENGTH and path.name.isalnum() and path.is_dir()


def room_checked(blobs: Path, size_bytes: int) -> None:
    """Errors: `StoreError`, unless there would be something to spare."""
    if shutil.disk_usage(blobs).free < size_bytes + SPARE_BYTES:
        raise StoreError(DISK_FULL)


def folder_settle(folder: Path) -> None:
    """Bring a folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
