"""What moves money and prices; every function may be repeated without effect."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting
from kindling_billing.models import CreditGrant, LedgerTransaction, PriceVersion, utc_now
from kindling_billing.money import PICO_PER_USD
from kindling_billing.wallet import wallet_post, wallets_post

USAGE = "usage"
CREDIT = "credit"
MAX_CREDIT_PICOUSD = 1_000_000 * PICO_PER_USD


@dataclass(frozen=True, slots=True)
class UsageCharge:
    """What one request costs its owner, in pico-dollars."""

    owner_id: str
    request_id: str
    cost_picousd: int
    memo: str = ""


def credit_grant(
    *,
    owner_id: str,
    amount_picousd: int,
    source_id: str,
    memo: str,
    actor_id: str,
    expires_at: datetime | None = None,
) -> LedgerTransaction | None:
    """Give credit from the house's promotion account to a wallet; None when `source_id` was granted before.

    Raises:
        BillingError: `amount_invalid` unless the amount is above nothing and at most a million dollars,
            `expiry_invalid` for an expiry that has passed.
    """
    if not 0 < amount_picousd <= MAX_CREDIT_PICOUSD:
        raise BillingError("amount_invalid", "Credit must be more than zero, and a million dollars at most.")
    if expires_at is not None and expires_at <= utc_now():
        raise BillingError("expiry_invalid", "Credit must expire in the future.")
    entries = [("promo", "", -amount_picousd), ("wallet", owner_id, amount_picousd)]
    grant = CreditGrant(
        owner_id=owner_id,
        kind=CreditGrant.Kind.PROMO,
        amount_picousd=amount_picousd,
        source_type=CREDIT,
        source_id=source_id,
        memo=memo[:200],
        expires_at=expires_at,
    )
    if not wallet_post(Posting(CREDIT, source_id, entries, memo, {"actor": actor_id}), grant=grant):
        return None
    return LedgerTransaction.objects.get(source_type=CREDIT, source_id=source_id)


def usage_post(charges: Sequence[UsageCharge]) -> set[str]:
    """Charge many requests, one transaction each; gives the ids that had not been charged before."""
    if any(charge.cost_picousd < 0 for charge in charges):
        raise BillingError("amount_invalid", "A request cannot cost less than zero.")
    postings = [
        Posting(
            source_type=USAGE,
            source_id=charge.request_id,
            entries=[
                ("wallet", charge.owner_id, -charge.cost_picousd),
                ("revenue", "", charge.cost_picousd),
            ],
            memo=charge.memo,
        )
        for charge in charges
    ]
    return {source_id for _, source_id in wallets_post(postings)}


def price_publish(
    *,
    sku: str,
    input_picousd: int,
    cached_input_picousd: int,
    output_picousd: int,
    valid_from: datetime | None = None,
    created_by: str = "",
) -> PriceVersion:
    """Add a price version; requests already admitted keep the one they were admitted with.

    Raises:
        BillingError: `amount_invalid` for a negative price or one above a dollar per token.
    """
    prices = (input_picousd, cached_input_picousd, output_picousd)
    if min(prices) < 0 or max(prices) > 10**12:
        raise BillingError("amount_invalid", "A price per token lies between nothing and one dollar.")
    return PriceVersion.objects.create(
        sku=sku,
        input_picousd=input_picousd,
        cached_input_picousd=cached_input_picousd,
        output_picousd=output_picousd,
        valid_from=valid_from or utc_now(),
        created_by=created_by,
    )
