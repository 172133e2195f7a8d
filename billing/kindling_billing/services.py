"""What moves money and prices; every function may be repeated without effect."""

from datetime import datetime

from kindling_billing.credits import CREDIT
from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting
from kindling_billing.models import CreditGrant, LedgerTransaction, PricePlan, PriceVersion, utc_now
from kindling_billing.money import PICO_PER_USD
from kindling_billing.usage import Correction, UsageCharge, usage_correct, usage_post
from kindling_billing.wallet import wallet_post

__all__ = ["Correction", "UsageCharge", "credit_grant", "price_publish", "usage_correct", "usage_post"]
MAX_CREDIT_PICOUSD = 1_000_000 * PICO_PER_USD


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


def price_publish(
    *,
    sku: str,
    input_picousd: int,
    cached_input_picousd: int,
    output_picousd: int,
    reasoning_picousd: int | None = None,
    gpu_ms_picousd: int = 0,
    batch_percent: int = 50,
    plan_id: str = "",
    valid_from: datetime | None = None,
    created_by: str = "",
) -> PriceVersion:
    """Add a price version, to the book or to a plan; requests already admitted keep the one they were admitted with.

    Prices are pico-dollars per token, and per millisecond of a GPU.

    Raises:
        BillingError: `amount_invalid` for a negative price, one above a dollar per unit, or a batch that costs more
            than the whole; `plan_unknown`.
    """
    prices = [input_picousd, cached_input_picousd, output_picousd, gpu_ms_picousd, reasoning_picousd or 0]
    if min(prices) < 0 or max(prices) > PICO_PER_USD:
        raise BillingError("amount_invalid", "A price per token lies between nothing and one dollar.")
    if not 0 <= batch_percent <= 100:
        raise BillingError("amount_invalid", "A batch pays between 0 and 100 percent of the price.")
    if plan_id and not PricePlan.objects.filter(id=plan_id).exists():
        raise BillingError("plan_unknown", f"There is no price plan {plan_id[:64]!r}.")
    return PriceVersion.objects.create(
        sku=sku,
        plan_id=plan_id,
        input_picousd=input_picousd,
        cached_input_picousd=cached_input_picousd,
        output_picousd=output_picousd,
        reasoning_picousd=reasoning_picousd,
        gpu_ms_picousd=gpu_ms_picousd,
        batch_percent=batch_percent,
        valid_from=valid_from or utc_now(),
        created_by=created_by,
    )
