"""Credit that a program gives: the same request again, with its idempotency key, finds what the first one gave."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from kindling_billing.credits import grant_find
from kindling_billing.models import CreditGrant
from kindling_platform.accounts.credit import credit_give
from kindling_platform.accounts.models import Organisation
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError

HEADER = "Idempotency-Key"
MOST_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Given:
    """A portion of credit, and whether an earlier request has given it."""

    grant: CreditGrant
    is_replayed: bool


def credit_give_once(
    *,
    org: Organisation,
    amount_picousd: int,
    memo: str,
    idempotency_key: str,
    actor: Actor,
    expires_at: datetime | None = None,
) -> Given:
    """Give an organisation credit, once for each key, whichever process or machine hears it again and whenever.

    Raises:
        KindlingError: `idempotency_key_invalid` without a key of 1 to 255 printable characters,
            `idempotency_key_reused` for another credit under the same key, `amount_invalid`, `expiry_invalid`.
    """
    source_id = _source_id(idempotency_key)
    found = grant_find(source_id=source_id)
    is_new = found is None and credit_give(
        org=org, amount_picousd=amount_picousd, source_id=source_id, memo=memo, actor=actor, expires_at=expires_at
    )  # fmt: skip
    # Of two at the same moment one gives, and the other finds what was given.
    grant = found or grant_find(source_id=source_id)
    if grant is None:
        raise RuntimeError(f"the credit {source_id} was posted without its portion")
    if not is_new and (
        grant.owner_id != org.id
        or grant.amount_picousd != amount_picousd
        or grant.memo != memo
        or grant.expires_at != expires_at
    ):
        text = f"This {HEADER} was used with another credit. Use a new one for each."
        raise KindlingError("idempotency_key_reused", text, param=HEADER)
    return Given(grant, is_replayed=not is_new)


def _source_id(key: str) -> str:
    if not (0 < len(key) <= MOST_KEY_CHARS and key.isascii() and key.isprintable()):
        text = f"Send a header {HEADER} of 1 to {MOST_KEY_CHARS} printable characters: credit is given once for it."
        raise KindlingError("idempotency_key_invalid", text, param=HEADER)
    return f"once:{hashlib.sha256(key.encode()).hexdigest()[:56]}"
