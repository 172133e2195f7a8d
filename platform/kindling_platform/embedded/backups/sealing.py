"""A stream sealed with a passphrase: scrypt makes the key, ChaCha20-Poly1305 seals chunk after chunk.

Every nonce is the chunk's number and whether it is the last, so that chunks can be neither swapped nor cut
off (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).
"""

import io
import os
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from kindling_platform.embedded.errors import EmbeddedError

MAGIC = b"KINDLING-SEALED-1\n"
SALT_BYTES = 16
TAG_BYTES = 16
CHUNK_BYTES = 1 << 20
SCRYPT_N = 1 << 15


class SealedWriter(io.RawIOBase):
    """Seals what is written; `close` writes the last chunk and leaves the file below open."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        self._file = file
        self._header = MAGIC + os.urandom(SALT_BYTES)
        self._cipher = _cipher(self._header, passphrase)
        self._waiting = bytearray()
        self._number = 0
        file.write(self._header)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data).cast("B")  # type: ignore[arg-type]
        self._waiting += view
        # The last chunk is known only at the end, so a full one waits until more has come.
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]
        return len(view)

    def close(self) -> None:
        if not self.closed:
            self._seal(bytes(self._waiting), last=True)
        super().close()

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, last), chunk, self._header))
        self._number += 1


class SealedReader(io.RawIOBase):
    """Opens what SealedWriter sealed. Errors: `passphrase_wrong`, `backup_damaged`."""

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        self._file = file
        self._header = file.read(len(MAGIC) + SALT_BYTES)
        self._cipher = _cipher(self._header, passphrase)
        self._ahead = file.read(CHUNK_BYTES + TAG_BYTES)
        self._open = b""
        self._number = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if not self._open and self._ahead:
            self._open = self._next_chunk()
        count = min(len(view), len(self._open))
        view[:count] = self._open[:count]
        self._open = self._open[count:]
        return count

    def _next_chunk(self) -> bytes:
        sealed, self._ahead = self._ahead, self._file.read(CHUNK_BYTES + TAG_BYTES)
        try:
            chunk = self._cipher.decrypt(_nonce(self._number, not self._ahead), sealed, self._header)
        except InvalidTag:
            if self._number == 0:
                raise EmbeddedError(
                    "passphrase_wrong", "The passphrase does not open this backup, or its start is damaged."
                ) from None
            raise EmbeddedError(
                "backup_damaged", f"The backup is damaged or cut off near chunk {self._number}."
            ) from None
        self._number += 1
        return chunk


def is_sealed(file: IO[bytes]) -> bool:
    """Whether the file begins like a sealed one; leaves it at its start."""
    found = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    return found


def _cipher(header: bytes, passphrase: str) -> ChaCha20Poly1305:
    salt = header[len(MAGIC) :]
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=SCRYPT_N, r=8, p=1).derive(passphrase.encode()))


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
