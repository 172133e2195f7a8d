"""The engine's append-only usage log: one framed record per request, the source of the bill.

A frame is a little-endian u32 length, the CRC-32 of the payload, and the payload as JSON. The first frame holds
the log's id, so that a reader with an old offset notices that the file was made anew. A process kill loses
nothing, because records are handed to the operating system before the last chunk leaves; a torn tail is cut at
the next opening. A log that has grown long goes on in another file (`usage_parts`).
"""

import fcntl
import os
import struct
import time
import uuid
import zlib
from pathlib import Path
from typing import BinaryIO

import msgspec

from kindling_engine.protocol.usage_parts import MOST_BYTES, part_newest, part_path

FRAME = struct.Struct("<II")
MAX_PAYLOAD_BYTES = 64 * 1024


class UsageRecord(msgspec.Struct):
    """What one request used. Counts are tokens, times are Unix milliseconds; `context` is the gateway's, untouched.

    Cached tokens are part of the prompt's, reasoning tokens of the completion's; older logs do not have the latter.
    finish: stop | length | cancelled | grant_refused | error. Everything but an error is billable.
    """

    request_id: str
    context: str
    tenant: str
    adapter: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish: str
    started_ms: int
    first_token_ms: int | None
    finished_ms: int
    replica: str
    reasoning_tokens: int = 0

    @property
    def billable(self) -> bool:
        """A failure of ours is recorded and costs nothing."""
        return self.finish != "error"


class LogHeader(msgspec.Struct):
    """The first frame of a log."""

    log: str


class UsageLogError(Exception):
    """The log cannot be opened or appended to."""


_record_decoder = msgspec.json.Decoder(UsageRecord)
_header_decoder = msgspec.json.Decoder(LogHeader)


class UsageLogWriter:
    """Appends records to one log, which one process at a time may own, in files of a bounded length."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._log = path
        self._most_bytes = most_bytes
        self._part = part_newest(path)
        self._file = self._open(self._part)
        self._before: BinaryIO | None = None
        self.log_id = self._recover()

    @property
    def path(self) -> Path:
        """The file that is written now."""
        return part_path(self._log, self._part)

    def append(self, record: UsageRecord) -> int:
        """Hand one record to the operating system; returns the offset behind it in the file that is written then."""
        if self._file.tell() >= self._most_bytes:
            self._begin_next()
        return _write(self._file, msgspec.json.encode(record))

    def sync(self) -> None:
        """Bring what was appended to the disk; may run in another thread than `append`."""
        file = self._file
        if not file.closed:
            os.fdatasync(file.fileno())

    def close(self) -> None:
        """Flush to the disk and close."""
        self.sync()
        for file in (self._file, self._before):
            if file is not None:
                file.close()

    def _open(self, part: int) -> BinaryIO:
        path = part_path(self._log, part)
        path.touch(exist_ok=True)
        file = path.open("r+b", buffering=0)
        try:
            # Two writers would cut each other's records away.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever deletes old files may have been faster than the lock.
            if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                raise FileNotFoundError(path)
        except OSError as error:
            file.close()
            raise UsageLogError(f"usage log: {path.name} is in use by another process") from error
        _sync_folder(path.parent)
        return file

    def _begin_next(self) -> None:
        """Go on in a new file; while none can be made, in the old one."""
        number = self._part + 1
        try:
            file = self._open(number)
        except (OSError, UsageLogError):
            return
        try:
            if _read_header(file)[0] is not None:
                # Somebody else's, who has written there in the meantime: it stays as it is.
                raise UsageLogError(f"usage log: {part_path(self._log, number).name} is there already")
            self.sync()
            file.truncate(0)  # what an attempt before this has left
            file.seek(0)
            log_id = _begin(file)
        except (OSError, UsageLogError):
            file.close()
            return
        # Whoever brings it to the disk in another thread may still do so.
        if self._before is not None:
            self._before.close()
        self._before, self._file = self._file, file
        self._part, self.log_id = number, log_id

    def _recover(self) -> str:
        header, offset = _read_header(self._file)
        if header is None:
            self._cut(0)
            return _begin(self._file)
        while (frame := _read_frame(self._file, offset)) is not None:
            offset = frame[1]
        self._cut(offset)
        return header

    def _cut(self, offset: int) -> None:
        """End the file at `offset`; what lay behind is kept beside it, since it may be somebody's bill."""
        self._file.seek(offset)
        tail = self._file.read()
        if tail:
            self.path.with_suffix(f".cut-{time.time_ns()}").write_bytes(tail)
        self._file.truncate(offset)
        self._file.seek(offset)


def _begin(file: BinaryIO) -> str:
    """Write the header of a new log; gives its id. Errors: UsageLogError."""
    log_id = str(uuid.uuid4())
    _write(file, msgspec.json.encode(LogHeader(log=log_id)))
    return log_id


def _write(file: BinaryIO, payload: bytes) -> int:
    frame = memoryview(FRAME.pack(len(payload), zlib.crc32(payload)) + payload)
    start = file.tell()
    try:
        while frame:
            frame = frame[file.write(frame) :]
    except OSError as error:
        file.truncate(start)  # never leave half a frame in front of the next one
        file.seek(start)
        raise UsageLogError(f"usage log: {error.strerror}") from error
    return file.tell()


def _sync_folder(folder: Path) -> None:
    """Bring the names of its files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_usage(path: Path, after: int, limit: int) -> tuple[str, list[UsageRecord], int]:
    """Read up to `limit` records behind the offset `after`, or from the beginning of a log that ends before it.

    What is told is on the disk: whoever books it may be sure that no later record takes its place after a power loss.

    Returns:
        The log's id ("" when there is none yet), the records, and the offset to go on from. A frame that is torn or
        damaged ends the reading; the offset then stays in front of it.
    """
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return "", [], 0
    with file:
        log_id, first = _read_header(file)
        if log_id is None:
            return "", [], 0
        # A log that lost its end says again what is known, which is better than never anything new.
        offset = max(after, first) if after <= os.fstat(file.fileno()).st_size else first
        records: list[UsageRecord] = []
        while len(records) < limit and (frame := _read_frame(file, offset)) is not None:
            try:
                records.append(_record_decoder.decode(frame[0]))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                break
            offset = frame[1]
        if records:
            os.fdatasync(file.fileno())
        return log_id, records, offset


def _read_header(file: BinaryIO) -> tuple[str | None, int]:
    frame = _read_frame(file, 0)
    if frame is None:
        return None, 0
    try:
        return _header_decoder.decode(frame[0]).log, frame[1]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None, 0


def _read_frame(file: BinaryIO, offset: int) -> tuple[bytes, int] | None:
    file.seek(offset)
    head = file.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    size, checksum = FRAME.unpack(head)
    # No frame is empty: zeros are what a power loss leaves where data should be.
    if not 0 < size <= MAX_PAYLOAD_BYTES:
        return None
    payload = file.read(size)
    if len(payload) < size or zlib.crc32(payload) != checksum:
        return None
    return payload, offset + FRAME.size + size
