"""Whether a webhook is the provider's own and fresh: HMAC-SHA256 over its time and its bytes."""

import hashlib
import hmac
from datetime import datetime

from kindling_billing.errors import BillingError

MOST_AGE_S = 300
SCHEME = "v1"


def signature_check(payload: bytes, header: str, *, secret: str, now: datetime) -> None:
    """Refuse what was not signed with the secret, or longer than five minutes ago.

    Raises:
        BillingError: `signature_invalid`, `signature_stale`.
    """
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    given = [value for name, _, value in parts if name == SCHEME]
    if len(times) != 1 or not times[0].isascii() or not times[0].isdigit() or len(times[0]) > 12 or not given:
        raise BillingError("signature_invalid", "The webhook carries no signature.")
    signed = hmac.new(secret.encode(), times[0].encode() + b"." + payload, hashlib.sha256).hexdigest()
    if not any(hmac.compare_digest(signed.encode(), one.encode()) for one in given):
        raise BillingError("signature_invalid", "The webhook was not signed with this endpoint's secret.")
    if abs(now.timestamp() - int(times[0])) > MOST_AGE_S:
        raise BillingError("signature_stale", "The webhook was signed too long ago, or in the future.")
