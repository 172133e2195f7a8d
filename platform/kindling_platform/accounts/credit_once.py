"""Credit that a program gives: the same request again, with its idempotency key, finds what the first one gave."""

from dataclasses import dataclass
from datetime import datetime

from kindling_billing.credits import grant_find
from kindling_billing.models import CreditGrant
from kindling_platform.accounts.credit import credit_give
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.once import key_reused, once_id
from kindling_platform.common.actors import Actor

DIGEST_CHARS = 56


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
            `idempotency_key_reused` for another credit under the same key, `amount_invalid`, `memo_missing`,
            `expiry_invalid`.
    """
    source_id = once_id(idempotency_key, chars=DIGEST_CHARS, what="credit is given once for it.")
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
        raise key_reused("credit")
    return Given(grant, is_replayed=not is_new)
