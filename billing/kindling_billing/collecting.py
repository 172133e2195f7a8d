"""Getting final invoices paid: what came in, reminders, suspension, and giving up."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F, QuerySet, Sum

from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting, accounts_lock, postings_post
from kindling_billing.models import Dispute, Invoice, Payment, utc_now
from kindling_billing.money import cents_to_pico
from kindling_billing.notices import notice_add
from kindling_billing.terms import owner_resume, owner_suspend
from kindling_billing.trail import trail_note

WRITE_OFF = "write_off"
DUE, OVERDUE, LAST = "invoice.due", "invoice.overdue", "invoice.last_call"
# Days behind the due date, and what is sent; at the last one inference stops.
STAGES: tuple[tuple[int, str], ...] = ((0, DUE), (7, OVERDUE), (14, LAST))
# A clock that jumps ahead must not run through all stages at once.
BETWEEN_STAGES = timedelta(days=3)


@transaction.atomic
def invoice_settle(*, invoice_id: str) -> Invoice | None:
    """Count anew what was paid of an invoice; a suspension ends with the last invoice that is overdue."""
    invoice = Invoice.objects.select_for_update().filter(id=invoice_id).first()
    if invoice is None or invoice.state == Invoice.State.DRAFT:
        return invoice
    before = _shown(invoice)
    invoice.paid_cents = _paid_cents(invoice_id)
    paid = invoice.paid_cents >= invoice.total_cents
    if invoice.state != Invoice.State.UNCOLLECTIBLE:
        invoice.state = Invoice.State.PAID if paid else Invoice.State.FINAL
        invoice.closed_at = (invoice.closed_at or utc_now()) if paid else None
    invoice.save(update_fields=["paid_cents", "state", "closed_at"])
    if _shown(invoice) != before:
        trail_note(
            action="invoice.settled", owner_id=invoice.owner_id, target=invoice.id,
            before=before, after=_shown(invoice),
        )  # fmt: skip
    if paid and not invoice_list_holding(owner_id=invoice.owner_id).exists():
        owner_resume(owner_id=invoice.owner_id)
    return invoice


@transaction.atomic
def invoice_write_off(*, invoice_id: str, reason: str) -> Invoice:
    """Give up what is open of an invoice: it becomes a loss; a repeat finds it done.

    Raises:
        BillingError: `invoice_unknown`, `invoice_not_open`.
    """
    owner_id = Invoice.objects.filter(id=invoice_id).values_list("owner_id", flat=True).first()
    if owner_id is None:
        raise BillingError("invoice_unknown", f"There is no invoice {invoice_id[:64]!r}.")
    accounts_lock({("receivable", owner_id), ("bad_debt", "")})
    invoice = Invoice.objects.select_for_update().get(id=invoice_id)
    if invoice.state == Invoice.State.UNCOLLECTIBLE:
        return invoice
    if invoice.state != Invoice.State.FINAL:
        raise BillingError("invoice_not_open", f"The invoice {invoice} is {invoice.state}.")
    before = _shown(invoice)
    left = cents_to_pico(invoice.total_cents - invoice.paid_cents)
    entries = [("receivable", owner_id, left), ("bad_debt", "", -left)]
    postings_post([Posting(WRITE_OFF, invoice.id, entries, f"Given up: {reason}"[:200])])
    invoice.state, invoice.closed_at = Invoice.State.UNCOLLECTIBLE, utc_now()
    invoice.save(update_fields=["state", "closed_at"])
    after = _shown(invoice) | {"reason": reason[:200]}
    trail_note(action="invoice.written_off", owner_id=owner_id, target=invoice.id, before=before, after=after)
    return invoice


def invoice_list_holding(*, owner_id: str) -> QuerySet[Invoice]:
    """The invoices for which an owner's inference is stopped, oldest first; with the last of them paid it goes on."""
    rows = Invoice.objects.filter(owner_id=owner_id, state=Invoice.State.FINAL, dunned=len(STAGES))
    return rows.order_by("month", "id")


def dunning_run(*, now: datetime | None = None) -> int:
    """Take the next step with every invoice that is due for one; gives how many there were."""
    now = now or utc_now()
    rows = Invoice.objects.filter(state=Invoice.State.FINAL, due_at__lte=now, dunned__lt=len(STAGES))
    return sum(_dun(invoice_id, now) for invoice_id in rows.values_list("id", flat=True))


@transaction.atomic
def _dun(invoice_id: str, now: datetime) -> bool:
    invoice = Invoice.objects.select_for_update().get(id=invoice_id)
    if invoice.state != Invoice.State.FINAL or invoice.due_at is None or invoice.dunned >= len(STAGES):
        return False
    days, kind = STAGES[invoice.dunned]
    if now < invoice.due_at + timedelta(days=days):
        return False
    if invoice.dunned_at is not None and now < invoice.dunned_at + BETWEEN_STAGES:
        return False
    invoice.dunned += 1
    invoice.dunned_at = now
    invoice.save(update_fields=["dunned", "dunned_at"])
    data = {
        "invoice": invoice.id,
        "number": invoice.name,
        "open_cents": invoice.total_cents - invoice.paid_cents,
    }
    notice_add(kind=kind, key=invoice.id, owner_id=invoice.owner_id, data=data)
    trail_note(
        action="invoice.dunned", owner_id=invoice.owner_id, target=invoice.id,
        before={"stage": str(invoice.dunned - 1)}, after=_shown(invoice) | {"stage": str(invoice.dunned)},
    )  # fmt: skip
    if invoice.dunned == len(STAGES):
        reason = f"Invoice {invoice.name} was due on {invoice.due_at:%Y-%m-%d} and is not paid."
        owner_suspend(owner_id=invoice.owner_id, reason=reason)
    return True


def _paid_cents(invoice_id: str) -> int:
    payments = Payment.objects.filter(invoice_id=invoice_id, state=Payment.State.SUCCEEDED)
    paid = payments.aggregate(total=Sum(F("amount_cents") + F("tax_cents")))["total"] or 0
    contested = Dispute.objects.filter(payment__in=payments).exclude(state=Dispute.State.WON)
    return int(paid - (contested.aggregate(total=Sum(F("amount_cents") + F("tax_cents")))["total"] or 0))


def _shown(invoice: Invoice) -> dict[str, str]:
    """An invoice as the record of money actions shows it."""
    return {
        "number": invoice.name,
        "state": str(invoice.state),
        "total_cents": str(invoice.total_cents),
        "paid_cents": str(invoice.paid_cents),
    }
