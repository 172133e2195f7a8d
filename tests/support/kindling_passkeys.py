"""A security key in software: it makes and uses passkeys as a browser would, with real keys and signatures."""

import hashlib
import json
import secrets
import struct
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


@dataclass(slots=True)
class SoftKey:
    """One passkey; `origin` is what the browser's address bar says."""

    origin: str = "http://localhost:8000"
    host: str = "localhost"
    verifies: bool = True
    id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    owner: str = ""

    def made(self, options: dict[str, Any]) -> str:
        """What a browser sends when the key was made."""
        asked = options["publicKey"]
        assert asked["rp"]["id"] == self.host
        self.owner = asked["user"]["id"]
        public = cbor.encode(dict(ES256.from_cryptography_key(self.key.public_key())))
        attested = bytes(16) + struct.pack(">H", len(self.id)) + self.id + public
        attestation = {"fmt": "none", "attStmt": {}, "authData": self._data(ATTESTED) + attested}
        response = {
            "clientDataJSON": websafe_encode(self._client("webauthn.create", asked)),
            "attestationObject": websafe_encode(cbor.encode(attestation)),
        }
        return self._sent(response, {"credProps": {"rk": True}})

    def used(self, options: dict[str, Any], **changes: str) -> str:
        """What a browser sends when the key was used."""
        asked = options["publicKey"]
        assert asked["rpId"] == self.host
        data, client = self._data(), self._client("webauthn.get", asked)
        signed = self.key.sign(data + hashlib.sha256(client).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": websafe_encode(client),
            "authenticatorData": websafe_encode(data),
            "signature": websafe_encode(signed),
            "userHandle": self.owner,
        }
        return self._sent(response | changes, {})

    def _data(self, flags: int = 0) -> bytes:
        flags |= PRESENT | (VERIFIED if self.verifies else 0)
        return hashlib.sha256(self.host.encode()).digest() + struct.pack(">BI", flags, 0)

    def _client(self, kind: str, asked: dict[str, Any]) -> bytes:
        challenge = websafe_encode(websafe_decode(asked["challenge"]))
        told = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps(told).encode()

    def _sent(self, response: dict[str, str], results: dict[str, Any]) -> str:
        id_ = websafe_encode(self.id)
        return json.dumps(
            {
                "id": id_,
                "rawId": id_,
                "type": "public-key",
                "clientExtensionResults": results,
                "response": response,
            }
        )
