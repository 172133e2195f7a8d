"""The frames of a spool: a little-endian u32 length, the CRC-32 of the body, and the body.

A body is one byte for its kind, the sixteen bytes of the request's id, and JSON. A frame that is torn or damaged ends
the reading of its file.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from uuid import UUID

FRAME = struct.Struct("<II")
HEAD_BYTES = 17
MAX_BODY_BYTES = 64 * 1024
READ_BYTES = 1024 * 1024


class Kind(IntEnum):
    """What a frame says of its request.

    OPEN: it goes to an engine. CHECKPOINT: what it has used so far. Four kinds end it. CLOSED: the engine has counted.
    CUT: it was ended early, and the engine's log knows the counts. VOID: we failed, it is free. DROPPED: no engine has
    seen it.
    """

    OPEN = 1
    CHECKPOINT = 2
    CLOSED = 3
    CUT = 4
    VOID = 5
    DROPPED = 6


SHIPPED = frozenset({Kind.CLOSED, Kind.CUT, Kind.VOID})
KINDS = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame with the offset behind it; `data` is its JSON."""

    kind: Kind
    id_bytes: bytes
    data: bytes
    end: int

    @property
    def request_id(self) -> UUID:
        return UUID(bytes=self.id_bytes)


def frame_pack(kind: Kind, request_id: UUID, data: bytes) -> bytes:
    """The bytes of one frame."""
    body = bytes((kind,)) + request_id.bytes + data
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def frames_read(path: Path, *, start: int) -> Iterator[Frame]:
    """The frames of a file from an offset on, up to its end or to the first that is not whole."""
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        at, rest = start, b""
        while part := file.read(READ_BYTES):
            rest += part
            used = 0
            while (found := _frame(rest, used, at)) is not None:
                frame, size = found
                used, at = used + size, at + size
                yield frame
            rest = rest[used:]
            if len(rest) > MAX_BODY_BYTES + FRAME.size:
                return


def _frame(data: bytes, start: int, at: int) -> tuple[Frame, int] | None:
    if len(data) - start < FRAME.size:
        return None
    size, checksum = FRAME.unpack_from(data, start)
    end = start + FRAME.size + size
    if not HEAD_BYTES <= size <= MAX_BODY_BYTES or end > len(data):
        return None
    body = data[start + FRAME.size : end]
    kind = KINDS.get(body[0])
    if kind is None or zlib.crc32(body) != checksum:
        return None
    frame = Frame(kind, body[1:HEAD_BYTES], body[HEAD_BYTES:], at + FRAME.size + size)
    return frame, FRAME.size + size
