"""A whole answer as bytes, to be kept and given again."""

import struct
from dataclasses import dataclass

import orjson

from kindling_platform.gateway.request import Headers

SIZE = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the client got, but for what is true of one moment only, such as what is left of a limit."""

    body: bytes
    headers: Headers

    def pack(self) -> bytes:
        names = orjson.dumps(
            [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers]
        )
        return SIZE.pack(len(names)) + names + self.body

    @classmethod
    def unpack(cls, data: bytes) -> "Answer":
        (size,) = SIZE.unpack_from(data)
        names = orjson.loads(data[SIZE.size : SIZE.size + size])
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in names]
        return cls(data[SIZE.size + size :], headers)
