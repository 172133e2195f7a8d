"""Refunds that did not reach the customer: the money is ours again, and a person says how the customer gets it."""

from django.db import transaction
from django.db.models import QuerySet

from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting, postings_post
from kindling_billing.models import CreditGrant, FailedRefund, LedgerTransaction, Payment, utc_now
from kindling_billing.money import PICO_PER_CENT, cents_to_pico
from kindling_billing.notices import notice_add
from kindling_billing.payments import CLEARING, REFUND
from kindling_billing.trail import trail_note
from kindling_billing.wallet import WALLET, wallet_post

RETURNED, PAID_OTHERWISE = "refund_returned", "refund_paid"
TROUBLE = "provider.trouble"


def failed_refund_list(*, is_open: bool = True) -> QuerySet[FailedRefund]:
    """Refunds that came back, the newest first; those that wait for a person unless told otherwise."""
    rows = FailedRefund.objects.select_related("payment").exclude(state=FailedRefund.State.UNBOOKED)
    rows = rows.order_by("-heard_at", "-id")
    return rows.filter(state=FailedRefund.State.OPEN) if is_open else rows


@transaction.atomic
def refund_failed(*, refund_id: str, intent_id: str, amount_cents: int, reason: str) -> bool:
    """Note that a booked refund came back; False when it was noted before, or never booked.

    The books stay as they are until somebody says how the customer gets the money. One that was not booked is not
    booked any more: somebody may have read, before it failed, that it was under way, and come later.
    """
    # Whoever books the refund has the same lock.
    rows = Payment.objects.select_for_update().filter(intent_id=intent_id, state=Payment.State.SUCCEEDED)
    payment = rows.first() if intent_id else None
    posted = LedgerTransaction.objects.filter(source_type=REFUND, source_id=refund_id).first()
    if posted is None:
        if payment is not None:
            noted = {"payment": payment, "amount_cents": amount_cents, "reason": reason[:200]}
            state = {"state": FailedRefund.State.UNBOOKED, "resolved_at": utc_now()}
            FailedRefund.objects.get_or_create(id=refund_id, defaults=noted | state)
        return False
    payment = payment or Payment.objects.get(id=posted.data["payment"])
    row, made = FailedRefund.objects.get_or_create(
        id=refund_id,
        defaults={"payment": payment, "amount_cents": _cleared_cents(posted), "reason": reason[:200]},
    )
    if not made:
        return False
    text = f"A refund of {row.amount_cents} cents did not reach the customer: {reason or 'no reason given'}."
    notice_add(kind=TROUBLE, key=refund_id, data={"refund": refund_id, "reason": text})
    trail_note(
        action="refund.failed", owner_id=payment.owner_id, target=refund_id,
        after={"cents": str(row.amount_cents), "reason": row.reason},
    )  # fmt: skip
    return True


@transaction.atomic
def refund_credit(*, refund_id: str, resolved_by: str) -> FailedRefund:
    """Give the money back as credit: the refund's postings are reversed, and it may be refunded again.

    Raises:
        BillingError: `refund_unknown`, `refund_resolved`.
    """
    row = _open(refund_id)
    payment = Payment.objects.select_for_update().get(id=row.payment_id)
    posted = LedgerTransaction.objects.get(source_type=REFUND, source_id=refund_id)
    entries = [
        (entry.account.kind, entry.account.owner_id, -int(entry.amount_picousd))
        for entry in posted.entries.select_related("account").order_by("id")
    ]
    posting = Posting(RETURNED, refund_id, entries, "Refund came back: credited", {"payment": payment.id})
    wallet_post(posting, grant=_portion(payment, refund_id, entries))
    tax_cents = sum(amount for kind, _, amount in entries if kind == "tax") // PICO_PER_CENT
    payment.refunded_cents -= row.amount_cents
    payment.refunded_tax_cents -= tax_cents
    payment.save(update_fields=["refunded_cents", "refunded_tax_cents"])
    return _resolve(row, FailedRefund.State.CREDITED, "", resolved_by)


@transaction.atomic
def refund_paid_otherwise(*, refund_id: str, note: str, resolved_by: str) -> FailedRefund:
    """Note that the customer was paid from our bank; the refund stays as it is booked.

    Raises:
        BillingError: `refund_unknown`, `refund_resolved`, `note_missing`.
    """
    if not note.strip():
        raise BillingError("note_missing", "Say how it was paid, such as the reference of the transfer.")
    row = _open(refund_id)
    amount = cents_to_pico(row.amount_cents)
    entries = [(CLEARING, "", -amount), ("bank", "", amount)]
    memo = f"Refund paid otherwise: {note.strip()}"[:200]
    postings_post([Posting(PAID_OTHERWISE, refund_id, entries, memo, {"payment": row.payment_id})])
    return _resolve(row, FailedRefund.State.PAID, note.strip(), resolved_by)


def _open(refund_id: str) -> FailedRefund:
    row = FailedRefund.objects.select_for_update(of=("self",)).filter(id=refund_id).first()
    if row is None:
        raise BillingError("refund_unknown", "No refund of this id came back.")
    if row.state != FailedRefund.State.OPEN:
        raise BillingError("refund_resolved", f"This refund was {row.state} already.")
    return row


def _resolve(row: FailedRefund, state: str, note: str, resolved_by: str) -> FailedRefund:
    row.state, row.note = FailedRefund.State(state), note[:300]
    row.resolved_at, row.resolved_by = utc_now(), resolved_by[:200]
    row.save(update_fields=["state", "note", "resolved_at", "resolved_by"])
    return row


def _portion(payment: Payment, refund_id: str, entries: list[tuple[str, str, int]]) -> CreditGrant | None:
    """The credit that the money becomes; of an invoice's payment nothing goes to a wallet."""
    amount = sum(amount for kind, _, amount in entries if kind == WALLET)
    if amount <= 0:
        return None
    return CreditGrant(
        owner_id=payment.owner_id,
        kind=CreditGrant.Kind.RETURNED,
        amount_picousd=amount,
        source_type=RETURNED,
        source_id=refund_id,
        memo="Refund that came back",
    )


def _cleared_cents(posted: LedgerTransaction) -> int:
    rows = posted.entries.filter(account__kind=CLEARING).values_list("amount_picousd", flat=True)
    return int(sum(rows)) // PICO_PER_CENT
