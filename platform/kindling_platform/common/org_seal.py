"""Encrypts at rest what organisations say: compressed, and bound to its row and its organisation.

The key is made of the installation's secret, so that a copy of the database alone says nothing.
"""

import hashlib
import hmac
import os
import zlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
ZLIB_LEVEL = 1


class SealBrokenError(Exception):
    """What lies there was sealed with another secret, or is not what was sealed."""


class SealedTooLongError(Exception):
    """What was sealed is longer than its reader wants: a few bytes may stand for many."""


class OrgSeal:
    """Closes and opens with the secret of one installation; what is sealed for one ``purpose`` opens for no other."""

    def __init__(self, secret: str, purpose: bytes) -> None:
        self._root = hmac.digest(secret.encode(), purpose, hashlib.sha256)

    def close(self, text: bytes, *, org_id: str, row: bytes) -> bytes:
        """The text, encrypted (AES-256-GCM)."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher(org_id).encrypt(nonce, zlib.compress(text, ZLIB_LEVEL), row)

    def open(self, sealed: bytes, *, org_id: str, row: bytes, most_bytes: int) -> bytes:
        """The text. Errors: SealBrokenError, SealedTooLongError."""
        unpacking = zlib.decompressobj()
        try:
            packed = self._cipher(org_id).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], row)
            text = unpacking.decompress(packed, most_bytes + 1)
        except (InvalidTag, ValueError, zlib.error) as error:
            raise SealBrokenError from error
        if len(text) > most_bytes:
            raise SealedTooLongError
        if not unpacking.eof:
            raise SealBrokenError
        return text

    def _cipher(self, org_id: str) -> AESGCM:
        return AESGCM(hmac.digest(self._root, org_id.encode(), hashlib.sha256))
