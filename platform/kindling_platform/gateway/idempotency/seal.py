"""Seals answers at rest: the key is made of the installation's secret and of the caller's own Idempotency-Key.

The database holds neither of them, only a digest by which the row is found again.
"""

import hashlib
import hmac
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

PURPOSE = b"kindling idempotent replies"
NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Seal:
    """What one Idempotency-Key of one API key is found by, and what its answer is sealed with."""

    digest: bytes
    key: bytes

    def close(self, answer: bytes) -> bytes:
        """The answer, encrypted (AES-256-GCM) and bound to its row."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + AESGCM(self.key).encrypt(nonce, answer, self.digest)

    def open(self, sealed: bytes) -> bytes:
        """The answer. Errors: InvalidTag when it is not what was sealed."""
        return AESGCM(self.key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self.digest)


def seal_of(secret: str, *, scope: str, key: bytes) -> Seal:
    """The seal for a client's key; `scope` names whose it is."""
    root = hmac.digest(secret.encode(), PURPOSE, hashlib.sha256)
    name = scope.encode() + b"\0" + key
    return Seal(
        hmac.digest(root, b"row\0" + name, hashlib.sha256),
        hmac.digest(root, b"seal\0" + name, hashlib.sha256),
    )
