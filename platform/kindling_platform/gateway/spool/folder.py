"""A process's folder of spool files: how it is made, who owns it, and how far it was shipped.

The owner holds a lock which the kernel lets go of when the process dies; whoever gets it then owns what is left. A
folder is made under another name and renamed once it is locked, so that nobody takes it for a dead one's.
"""

import fcntl
import os
import secrets
import shutil
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LOCK, MARK = "lock", "mark"
SUFFIX, DAMAGED = ".spool", ".damaged"
HALF_MADE = "."
HALF_MADE_S = 60.0
PLACE = struct.Struct("<QQI")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a spool: the number of a file, and an offset in it."""

    file: int
    offset: int


START = Position(0, 0)


class SpoolFolder:
    """A locked folder; `close` lets go of it, `remove` deletes it first."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        """Errors: OSError, and the lock is let go of then."""
        self.path = path
        self._lock_fd = lock_fd
        try:
            self._mark_fd = os.open(path / MARK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            os.close(lock_fd)
            raise

    @classmethod
    def make(cls, root: Path) -> "SpoolFolder":
        """A new folder of this process."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}"
        half_made = root / f"{HALF_MADE}{name}"
        half_made.mkdir(mode=0o700)
        lock_fd = _lock(half_made)
        if lock_fd is None:
            raise OSError(f"the new folder {half_made.name} was locked by somebody else")
        return cls(half_made.rename(root / name), lock_fd)

    @classmethod
    def take(cls, path: Path) -> "SpoolFolder | None":
        """A folder that nobody owns any more, oldest process first; None when somebody does. Errors: OSError."""
        try:
            lock_fd = _lock(path)
            if lock_fd is None:
                return None
            if not os.fstat(lock_fd).st_nlink:  # it was removed while we waited for the lock's file
                os.close(lock_fd)
                return None
            return cls(path, lock_fd)
        except FileNotFoundError:
            return None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def mark(self) -> Position:
        """Up to where everything was shipped; a mark that was torn reads as the beginning."""
        data = os.pread(self._mark_fd, PLACE.size, 0)
        if len(data) < PLACE.size:
            return START
        file, offset, checksum = PLACE.unpack(data)
        return Position(file, offset) if zlib.crc32(data[:16]) == checksum else START

    def keep_mark(self, position: Position) -> None:
        """Note how far it was shipped."""
        data = struct.pack("<QQ", position.file, position.offset)
        os.pwrite(self._mark_fd, data + struct.pack("<I", zlib.crc32(data)), 0)

    def file(self, number: int) -> Path:
        """The path of a spool file."""
        return self.path / f"{number:08d}{SUFFIX}"

    def files(self) -> list[int]:
        """The numbers of the spool files, oldest first."""
        return sorted(int(path.stem) for path in self.path.glob(f"*{SUFFIX}"))

    def set_aside(self, number: int) -> None:
        """Keep a spool file beside the folder, where a person finds it and nobody replays it."""
        self.file(number).rename(self.path.with_name(f"{self.name}-{number:08d}{DAMAGED}"))

    def remove(self) -> None:
        """Delete everything and let go."""
        # The lock's file goes last: a folder without one counts as gone.
        for path in self.path.iterdir():
            if path.name != LOCK:
                path.unlink()
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Let go of the folder and leave it as it is."""
        os.close(self._mark_fd)
        os.close(self._lock_fd)


def folders_abandoned(root: Path, *, but: str = "") -> Iterator[SpoolFolder]:
    """Folders of processes that have died, each one locked for the caller.

    Errors: OSError of a folder that cannot be taken, once all others were given.
    """
    if not root.is_dir():
        return
    failed: OSError | None = None
    for path in sorted(root.iterdir()):
        if path.name == but or not path.is_dir():
            continue
        if path.name.startswith(HALF_MADE) and not _is_old(path):
            continue
        try:
            folder = SpoolFolder.take(path)
        except OSError as error:
            failed = error
            continue
        if folder is not None:
            yield folder
    if failed is not None:
        raise failed


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > HALF_MADE_S
    except FileNotFoundError:
        return False


def _lock(folder: Path) -> int | None:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
