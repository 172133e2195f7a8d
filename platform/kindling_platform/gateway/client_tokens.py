"""Short-lived tokens for browsers and phones: a key mints them, and they die with it.

A token is its own record: what it allows, signed with the installation's pepper, so that nothing is stored and nobody
is asked. `kd_client_<base64url of the record>.<base64url of the signature>`; the record names the key by its digest.
"""

import base64
import binascii
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from typing import Any

import orjson

from kindling_platform.gateway.errors import GatewayError

PREFIX = "kd_client_"
PATTERN = re.compile(r"kd_client_[A-Za-z0-9_-]{40,4000}\.[A-Za-z0-9_-]{43}")
PURPOSE = b"kindling client token"
CHALLENGE = {"www-authenticate": "Bearer"}


@dataclass(frozen=True, slots=True)
class ClientToken:
    """What a token allows. None for models or origins means any; the budget is in nano-dollars."""

    id: str
    key_digest: bytes
    expires_at_s: int
    models: frozenset[str] | None = None
    origins: frozenset[str] | None = None
    budget_nano: int | None = None

    def check(self, origin: bytes) -> None:
        """Raise what keeps a request from a page at `origin` from using this token."""
        if self.expires_at_s <= time.time():
            message = "This client token has expired. Ask your server for a new one."
            raise GatewayError(401, "client_token_expired", message, headers=CHALLENGE)
        if self.origins is not None and origin.decode("latin-1") not in self.origins:
            message = "This client token may not be used from here: it is bound to other origins."
            raise GatewayError(403, "origin_not_allowed", message)


class TokenMint:
    """Writes tokens and reads them back; the key that signs is derived from the pepper."""

    def __init__(self, pepper: str) -> None:
        self._key = hmac.new(pepper.encode(), PURPOSE, hashlib.sha256).digest()

    def write(self, token: ClientToken) -> str:
        """The text of a token."""
        record = orjson.dumps(
            {
                "i": token.id,
                "k": _encode(token.key_digest),
                "e": token.expires_at_s,
                "m": None if token.models is None else sorted(token.models),
                "o": None if token.origins is None else sorted(token.origins),
                "b": token.budget_nano,
            }
        )
        return f"{PREFIX}{_encode(record)}.{_encode(self._sign(record))}"

    def read(self, text: str) -> ClientToken:
        """The token of a text; raises 401 for what this installation has not signed."""
        token = self.find(text)
        if token is None:
            message = "This client token is not valid. Check that it was copied whole."
            raise GatewayError(401, "invalid_client_token", message, headers=CHALLENGE)
        return token

    def find(self, text: str) -> ClientToken | None:
        """The same; None for what is not ours."""
        body, _, signature = text.removeprefix(PREFIX).partition(".")
        try:
            record, signed = _decode(body), _decode(signature)
        except (binascii.Error, ValueError):
            return None
        if not hmac.compare_digest(self._sign(record), signed):
            return None
        return _token_of(orjson.loads(record))

    def _sign(self, record: bytes) -> bytes:
        return hmac.new(self._key, record, hashlib.sha256).digest()


def is_token(text: str) -> bool:
    """Whether a text has the form of a client token."""
    return text.startswith(PREFIX) and PATTERN.fullmatch(text) is not None


def _token_of(record: dict[str, Any]) -> ClientToken:
    return ClientToken(
        id=record["i"],
        key_digest=_decode(record["k"]),
        expires_at_s=record["e"],
        models=None if record["m"] is None else frozenset(record["m"]),
        origins=None if record["o"] is None else frozenset(record["o"]),
        budget_nano=record["b"],
    )


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
