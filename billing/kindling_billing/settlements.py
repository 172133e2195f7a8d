"""What the payment provider reports of its own books: the counterpart that brings the clearing account back to zero.

A payment says what a customer was credited, a settlement what the provider moved for it. The two come by different
ways, so a clearing account that is not zero names money that only one of them knows.
"""

from django.db.models import Sum

from kindling_billing.amounts import MAX_CENTS, currency_check, id_check
from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting, postings_post
from kindling_billing.models import LedgerAccount
from kindling_billing.money import cents_to_pico

SETTLEMENT = "settlement"
PAYOUT = "payout"


def settlement_received(
    *, settlement_id: str, amount_cents: int, fee_cents: int = 0, currency: str = "usd", memo: str = ""
) -> bool:
    """Book one movement in the provider's books; False when it was booked before.

    `amount_cents` is gross and has the provider's sign: above zero for a charge or a dispute won back, below for a
    refund or a dispute; `fee_cents` is what the provider kept of it, or gave back when below zero.

    Raises:
        BillingError: `amount_invalid`, `currency_unsupported`, `id_invalid`.
    """
    id_check(settlement_id)
    currency_check(currency)
    if abs(amount_cents) > MAX_CENTS or abs(fee_cents) > MAX_CENTS or (amount_cents, fee_cents) == (0, 0):
        raise BillingError("amount_invalid", "A settlement moves up to a million dollars, and not nothing.")
    gross, fee = cents_to_pico(amount_cents), cents_to_pico(fee_cents)
    entries = [("stripe_clearing", "", gross), ("stripe_fees", "", -fee), ("stripe_balance", "", fee - gross)]
    posting = Posting(SETTLEMENT, settlement_id, [entry for entry in entries if entry[2]], memo)
    return bool(postings_post([posting]))


def payout_received(*, payout_id: str, amount_cents: int, currency: str = "usd") -> bool:
    """Book money that the provider sent to our bank; False when it was booked before.

    Raises:
        BillingError: `amount_invalid`, `currency_unsupported`, `id_invalid`.
    """
    id_check(payout_id)
    currency_check(currency)
    if amount_cents == 0 or abs(amount_cents) > 100 * MAX_CENTS:
        raise BillingError(
            "amount_invalid", "A payout moves up to a hundred million dollars, and not nothing."
        )
    amount = cents_to_pico(amount_cents)
    entries = [("stripe_balance", "", amount), ("bank", "", -amount)]
    return bool(postings_post([Posting(PAYOUT, payout_id, entries, "Paid out to the bank")]))


def account_sum(kind: str) -> int:
    """All balances of one kind of account together, in pico-dollars; below zero is what others hold for us."""
    total = LedgerAccount.objects.filter(kind=kind).aggregate(total=Sum("balance_picousd"))["total"]
    return int(total or 0)
