"""Seals what a request and its answer said: compressed and encrypted, bound to its row and its organisation.

The key is made of the installation's secret, so that a copy of the database alone says nothing.
"""

import hashlib
import hmac
import os
import zlib
from dataclasses import dataclass
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"kindling request log"
NONCE_BYTES = 12
ZLIB_LEVEL = 1


class SealBrokenError(Exception):
    """What lies there was sealed with another secret, or is not what was sealed."""


@dataclass(frozen=True, slots=True)
class Said:
    """A body and its answer, each as it was on the wire and as far as it was kept."""

    prompt: bytes
    answer: bytes
    answer_type: str
    prompt_bytes: int
    answer_bytes: int

    @property
    def is_cut(self) -> bool:
        """Whether there was more of either."""
        return self.prompt_bytes > len(self.prompt) or self.answer_bytes > len(self.answer)


class Seal:
    """Closes and opens with the secret of one installation."""

    def __init__(self, secret: str) -> None:
        self._root = hmac.digest(secret.encode(), PURPOSE, hashlib.sha256)

    def close(self, said: Said, *, org_id: str, request_id: UUID) -> bytes:
        """What was said, encrypted (AES-256-GCM)."""
        packed = zlib.compress(msgspec.msgpack.encode(said), ZLIB_LEVEL)
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher(org_id).encrypt(nonce, packed, request_id.bytes)

    def open(self, sealed: bytes, *, org_id: str, request_id: UUID) -> Said:
        """What was said. Errors: SealBrokenError."""
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            packed = self._cipher(org_id).decrypt(nonce, text, request_id.bytes)
            return msgspec.msgpack.decode(zlib.decompress(packed), type=Said)
        except (InvalidTag, ValueError, zlib.error) as error:
            raise SealBrokenError from error

    def _cipher(self, org_id: str) -> AESGCM:
        return AESGCM(hmac.digest(self._root, org_id.encode(), hashlib.sha256))
