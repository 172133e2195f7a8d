"""Contested payments: the amount leaves the wallet at once, and comes back or is lost when the bank decides.

The provider takes the money from us as soon as a dispute opens and returns it if we win. In between the books hold both
sides: what the customer has frozen (`disputed`), and what we claim of the bank (`dispute_claim`).
"""

from django.db import transaction

from kindling_billing.amounts import cents_check, id_check
from kindling_billing.collecting import invoice_settle
from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting
from kindling_billing.models import Dispute, Payment, utc_now
from kindling_billing.money import cents_to_pico
from kindling_billing.payments import CLEARING, bought_with, payment_lock, tax_part
from kindling_billing.terms import auto_topup_pause
from kindling_billing.trail import trail_note
from kindling_billing.wallet import WALLET, wallet_post

OPENED = "dispute"
CLOSED = "dispute_closed"
CONTESTED = "A payment is contested at the bank."


@transaction.atomic
def dispute_opened(*, dispute_id: str, intent_id: str, amount_cents: int) -> bool:
    """Freeze a contested amount, tax included; False when this dispute was opened before.

    The credit that was bought with the payment is frozen first; the wallet may fall below zero. A contested invoice
    payment is owed again until the dispute is won. Nothing is charged by itself any more until the owner says so again.

    Raises:
        BillingError: `amount_invalid`, `id_invalid`, `payment_unknown` while the payment is not booked,
            `dispute_too_large`.
    """
    id_check(dispute_id)
    cents_check(amount_cents)
    payment = payment_lock(intent_id)
    if Dispute.objects.filter(id=dispute_id).exists():
        return False
    if amount_cents > payment.total_cents:
        raise BillingError("dispute_too_large", "More is contested than was paid.")
    # An invoice has booked its own tax: all of its payment is owed again.
    owed = payment.purpose == Payment.Purpose.INVOICE
    tax_cents = 0 if owed else tax_part(payment, amount_cents)
    net, gross = cents_to_pico(amount_cents - tax_cents), cents_to_pico(amount_cents)
    Dispute.objects.create(
        id=dispute_id, payment=payment, amount_cents=amount_cents - tax_cents, tax_cents=tax_cents
    )
    owner = payment.owner_id
    entries = [
        ("receivable" if owed else WALLET, owner, -net),
        ("disputed", owner, net),
        (CLEARING, "", gross),
        ("dispute_claim", "", -gross),
    ]
    posting = Posting(OPENED, dispute_id, entries, "Payment contested: frozen", {"payment": payment.id})
    posted = wallet_post(posting, spend_first=bought_with(payment))
    trail_note(
        action="dispute.opened", owner_id=owner, target=dispute_id,
        after={"payment": payment.id, "cents": str(amount_cents), "state": "open"},
    )  # fmt: skip
    if payment.invoice_id:
        invoice_settle(invoice_id=payment.invoice_id)
    auto_topup_pause(owner_id=owner, reason=CONTESTED)
    return posted


@transaction.atomic
def dispute_closed(*, dispute_id: str, won: bool) -> bool:
    """Give a frozen amount back, or let it go to the cardholder's bank; False when it was closed before.

    Raises:
        BillingError: `dispute_unknown` while it was not opened here.
    """
    intent = Dispute.objects.filter(id=dispute_id).values_list("payment__intent_id", flat=True).first()
    if intent is None:
        raise BillingError("dispute_unknown", f"The dispute {dispute_id[:64]!r} was not opened.")
    payment = payment_lock(intent)
    dispute = Dispute.objects.select_for_update().get(id=dispute_id)
    if dispute.state != Dispute.State.OPEN:
        return False
    dispute.state = Dispute.State.WON if won else Dispute.State.LOST
    dispute.closed_at = utc_now()
    dispute.save(update_fields=["state", "closed_at"])
    owner = payment.owner_id
    net, tax = cents_to_pico(dispute.amount_cents), cents_to_pico(dispute.tax_cents)
    entries = [("disputed", owner, -net), ("dispute_claim", "", net + tax)]
    if won:
        owed = payment.purpose == Payment.Purpose.INVOICE
        entries += [("receivable" if owed else WALLET, owner, net), (CLEARING, "", -net - tax)]
        memo = "Dispute won: given back"
    else:
        entries += [("tax", "", -tax)]
        memo = "Dispute lost"
    posting = Posting(CLOSED, dispute_id, [e for e in entries if e[2]], memo, {"payment": payment.id})
    posted = wallet_post(posting)
    trail_note(
        action="dispute.closed", owner_id=owner, target=dispute_id,
        before={"payment": payment.id, "state": "open"},
        after={"payment": payment.id, "state": str(dispute.state)},
    )  # fmt: skip
    if payment.invoice_id:
        invoice_settle(invoice_id=payment.invoice_id)
    return posted
