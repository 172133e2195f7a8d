"""Signing secrets, and signatures as the Standard Webhooks have them (https://www.standardwebhooks.com)."""

import base64
import hashlib
import hmac
import secrets

from django.conf import settings

from kindling_platform.common.org_seal import OrgSeal, SealBrokenError, SealedTooLongError

PREFIX, SECRET_BYTES = "whsec_", 32
PURPOSE = b"kindling webhook secrets"
MOST_BYTES = 256


def secret_make() -> str:
    """A new secret, as it is shown: `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def secret_seal(text: str, *, org_id: str, endpoint_id: str) -> bytes:
    """A secret as it is stored."""
    return _seal().close(text.encode(), org_id=org_id, row=endpoint_id.encode())


def secret_open(sealed: bytes | memoryview, *, org_id: str, endpoint_id: str) -> str:
    """The secret. Errors: SealBrokenError, when the installation has another secret key by now."""
    try:
        text = _seal().open(bytes(sealed), org_id=org_id, row=endpoint_id.encode(), most_bytes=MOST_BYTES)
    except SealedTooLongError as error:
        raise SealBrokenError from error
    return text.decode()


def signature(text: str, *, event_id: str, timestamp: int, body: bytes) -> str:
    """`v1,` and base64 of the HMAC-SHA256 of `id.timestamp.body`."""
    key = base64.b64decode(text.removeprefix(PREFIX))
    signed = f"{event_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _seal() -> OrgSeal:
    return OrgSeal(settings.KINDLING_ENV.secret_key, PURPOSE)
