"""The spool of one process: frames are appended, read back from a mark, and deleted once they are shipped.

What is appended is the operating system's at once, so that a killed process loses nothing; `sync` brings it to the
disk. When a file is large enough the next one begins, and an older one goes as soon as each of its requests has ended
and everything up to the last of those ends was shipped.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from uuid import UUID

from kindling_platform.gateway.spool.folder import START, Position, SpoolFolder
from kindling_platform.gateway.spool.frames import SHIPPED, Frame, Kind, frame_pack, frames_read

CAP_BYTES = 512 * 1024 * 1024
FILE_BYTES = 8 * 1024 * 1024
MIN_FREE_BYTES = 64 * 1024 * 1024
DISK_SEEN_S = 0.1


class SpoolFullError(Exception):
    """There is no room to record another request."""


@dataclass(slots=True)
class _File:
    number: int
    descriptor: int
    size: int = 0
    open_requests: int = 0
    # Where the last of its requests ended; the file is not needed any more when the mark is there.
    ended_at: Position = START


class SpoolFiles:
    """Appends and reads in one thread; `sync` may run in another."""

    def __init__(
        self,
        root: Path,
        *,
        cap_bytes: int = CAP_BYTES,
        file_bytes: int = FILE_BYTES,
        min_free_bytes: int = MIN_FREE_BYTES,
    ) -> None:
        self.folder = SpoolFolder.make(root)
        self.mark = START
        self._cap_bytes = cap_bytes
        self._file_bytes = file_bytes
        self._min_free_bytes = min_free_bytes
        self._older: list[_File] = []
        self._current = self._begin(0)
        self._opened_in: dict[UUID, _File] = {}
        self._unsynced: list[_File] = []
        self._bytes = 0
        self._disk_room, self._disk_seen_at = True, -DISK_SEEN_S

    @property
    def end(self) -> Position:
        """Behind the last frame."""
        return Position(self._current.number, self._current.size)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    @property
    def open_requests(self) -> int:
        return len(self._opened_in)

    @property
    def is_dirty(self) -> bool:
        return bool(self._unsynced)

    def check_room(self) -> None:
        """Errors: SpoolFullError, at the cap and before the disk's last megabytes."""
        if self._bytes >= self._cap_bytes or not self._disk_has_room():
            raise SpoolFullError

    def append(self, kind: Kind, request_id: UUID, data: bytes) -> None:
        """Hand a frame to the operating system. Errors: SpoolFullError when it does not take it."""
        file = self._current
        if file.size >= self._file_bytes:
            file = self._next()
        self._write(file, frame_pack(kind, request_id, data))
        if file not in self._unsynced:
            self._unsynced.append(file)
        if kind is Kind.OPEN:
            self._note_open(request_id, file)
        elif kind is not Kind.CHECKPOINT:
            self._note_end(request_id)

    def read(self, *, limit: int) -> tuple[list[Frame], Position]:
        """Up to `limit` frames to ship from the mark on, and the place behind what was read."""
        found: list[Frame] = []
        at = self.mark
        for number in [one.number for one in (*self._older, self._current) if one.number >= self.mark.file]:
            at = at if number == at.file else Position(number, 0)
            for frame in frames_read(self.folder.file(number), start=at.offset):
                at = Position(number, frame.end)
                if frame.kind in SHIPPED:
                    found.append(frame)
                if len(found) == limit:
                    return found, at
        return found, at

    def advance(self, position: Position) -> None:
        """Everything before this place is shipped."""
        self.mark = position
        self.folder.keep_mark(position)
        # Not only the oldest: a request that runs for long must not keep what came after it.
        for file in [one for one in self._older if self._is_done(one)]:
            self._older.remove(file)
            if file in self._unsynced:
                self._unsynced.remove(file)
            os.close(file.descriptor)
            self._bytes -= file.size
            self.folder.file(file.number).unlink(missing_ok=True)

    def take_unsynced(self) -> list[int]:
        """Descriptors whose data is not on the disk yet, for `sync`; the caller owns these copies.

        Errors: OSError when there is none left to have, and all of it is still to be synced then.
        """
        copies: list[int] = []
        try:
            for file in self._unsynced:
                copies.append(os.dup(file.descriptor))  # noqa: PERF401  # those that were made are to be closed
        except OSError:
            for copy in copies:
                os.close(copy)
            raise
        self._unsynced = []
        return copies

    def close(self) -> None:
        """Let go; a spool that holds nothing any more is deleted."""
        sync(self.take_unsynced())
        for file in (*self._older, self._current):
            os.close(file.descriptor)
        if self._opened_in or self.mark < self.end:
            self.folder.close()
        else:
            self.folder.remove()

    def _disk_has_room(self) -> bool:
        # Asking the disk costs as much as writing to it, and it does not fill within a moment.
        now = monotonic()
        if now - self._disk_seen_at > DISK_SEEN_S:
            disk = os.statvfs(self.folder.path)
            self._disk_room = disk.f_bavail * disk.f_frsize >= self._min_free_bytes
            self._disk_seen_at = now
        return self._disk_room

    def _begin(self, number: int) -> _File:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        return _File(number, os.open(self.folder.file(number), flags, 0o600))

    def _next(self) -> _File:
        try:
            file = self._begin(self._current.number + 1)
        except OSError as error:
            raise SpoolFullError from error
        self._older.append(self._current)
        self._current = file
        return file

    def _write(self, file: _File, data: bytes) -> None:
        try:
            written = os.write(file.descriptor, data)
            while written < len(data):
                written += os.write(file.descriptor, memoryview(data)[written:])
        except OSError as error:
            # Half a frame would hide all that follow it.
            os.ftruncate(file.descriptor, file.size)
            raise SpoolFullError from error
        file.size += len(data)
        self._bytes += len(data)

    def _note_open(self, request_id: UUID, file: _File) -> None:
        before = self._opened_in.get(request_id)
        if before is file:
            return
        if before is not None:
            self._end_in(before)
        self._opened_in[request_id] = file
        file.open_requests += 1

    def _note_end(self, request_id: UUID) -> None:
        file = self._opened_in.pop(request_id, None)
        if file is not None:
            self._end_in(file)

    def _end_in(self, file: _File) -> None:
        file.open_requests -= 1
        file.ended_at = self.end

    def _is_done(self, file: _File) -> bool:
        return not file.open_requests and self.mark >= max(file.ended_at, Position(file.number, file.size))


def sync(descriptors: list[int]) -> None:
    """Bring files to the disk and close these descriptors of theirs."""
    try:
        for descriptor in descriptors:
            os.fdatasync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
