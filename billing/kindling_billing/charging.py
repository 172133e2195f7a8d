"""Asks for money, each time in one transaction: the payment that is opened, and the request that is sent for it."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import transaction

from kindling_billing.amounts import cents_check
from kindling_billing.errors import BillingError
from kindling_billing.models import (
    AutoTopUp,
    Invoice,
    OutboxCall,
    Payment,
    SavedCard,
    StripeCustomer,
    utc_now,
)
from kindling_billing.models.invoices import PAYABLE
from kindling_billing.outbox.writing import call_add
from kindling_billing.payment_calls import card_call, page_call
from kindling_billing.payments import payment_open
from kindling_billing.saved_cards import card_default
from kindling_billing.steps import step
from kindling_billing.terms import auto_topup_pause
from kindling_billing.topup import auto_topup_list_due
from kindling_billing.trail import trail_note
from kindling_billing.webhooks.effects import OWNER

LEAST_TOPUP_CENTS = 500
MOST_TOPUP_CENTS = 1_000_000
MOST_PER_HOUR = 10
HOUR = timedelta(hours=1)
NO_CARD = "There is no saved card to charge."
# A card that refused an invoice is asked again after these pauses, and then no more.
INVOICE_PAUSE = timedelta(days=3)
MOST_INVOICE_TRIES = 4


@transaction.atomic
def customer_call(*, owner_id: str, email: str, name: str) -> OutboxCall | None:
    """The request that makes an owner known at the provider; None when they are.

    After one that was refused there is another, without an address, since that is what a provider may not take.
    """
    StripeCustomer.objects.bulk_create([StripeCustomer(owner_id=owner_id)], ignore_conflicts=True)
    row = StripeCustomer.objects.select_for_update().get(owner_id=owner_id)
    if row.customer_id:
        return None
    made = OutboxCall.objects.filter(kind=OutboxCall.Kind.CUSTOMER, subject=f"{owner_id}:{row.generation}")
    if made.filter(state__in=[OutboxCall.State.REFUSED, OutboxCall.State.CLOSED]).exists():
        row.generation += 1
        row.save(update_fields=["generation"])
        email = ""
    params = {"email": email, "name": name, "metadata": {OWNER: owner_id}}
    return call_add(
        kind=OutboxCall.Kind.CUSTOMER,
        subject=f"{owner_id}:{row.generation}",
        owner_id=owner_id,
        params=params,
    )


def customer_id_get(*, owner_id: str) -> str:
    """Whom the provider knows an owner as, "" when it does not."""
    found = StripeCustomer.objects.filter(owner_id=owner_id).values_list("customer_id", flat=True).first()
    return found or ""


@transaction.atomic
def checkout_start(
    *,
    owner_id: str,
    amount_cents: int,
    tax_cents: int,
    tax_by_provider: bool,
    return_url: str,
    now: datetime | None = None,
) -> OutboxCall:
    """Begin a top-up on the provider's page; `{payment}` in the return address becomes the payment's id.

    Raises:
        BillingError: `amount_invalid`, `customer_unknown`, `topups_too_many` above ten in an hour.
    """
    topup_check(amount_cents)
    customer_id = _customer_lock(owner_id)
    recent = Payment.objects.filter(owner_id=owner_id, purpose=Payment.Purpose.TOPUP)
    if recent.filter(created_at__gt=(now or utc_now()) - HOUR).count() >= MOST_PER_HOUR:
        raise BillingError("topups_too_many", "Many top-ups were begun within an hour. Try again later.")
    payment = payment_open(
        owner_id=owner_id,
        purpose=Payment.Purpose.TOPUP,
        amount_cents=amount_cents,
        tax_cents=0 if tax_by_provider else tax_cents,
    )
    return page_call(payment, customer_id, "Credit", return_url, tax_by_provider=tax_by_provider)


@transaction.atomic
def invoice_page_start(*, owner_id: str, invoice_id: str, return_url: str) -> OutboxCall:
    """Begin to pay an invoice on the provider's page, one that was given up included; what is begun already goes on.

    Raises:
        BillingError: `invoice_unknown`, `invoice_not_open`, `customer_unknown`, `payment_open` while a card is charged.
    """
    invoice = _invoice_lock(owner_id, invoice_id, states=PAYABLE)
    customer_id = _customer_lock(owner_id)
    begun = Payment.objects.filter(invoice_id=invoice.id, state=Payment.State.OPEN).first()
    if begun is not None:
        call = OutboxCall.objects.filter(kind=OutboxCall.Kind.CHECKOUT, subject=begun.id).first()
        if call is not None:
            return call
    payment = _invoice_payment(invoice)
    return page_call(payment, customer_id, f"Invoice {invoice.name}", return_url, tax_by_provider=False)


@transaction.atomic
def auto_topup_start(*, owner_id: str, tax_cents: int, now: datetime | None = None) -> OutboxCall | None:
    """Charge an owner's card if their wish says so at this moment; None when nothing is due.

    The wish is locked while it is decided, so that two who decide at the same time charge once.
    """
    AutoTopUp.objects.select_for_update().filter(owner_id=owner_id).first()
    decision = auto_topup_list_due(now=now).get(owner_id)
    if decision is None or not decision.amount_cents:
        return None
    card, customer_id = card_default(owner_id=owner_id), customer_id_get(owner_id=owner_id)
    if card is None or not customer_id:
        auto_topup_pause(owner_id=owner_id, reason=NO_CARD)
        return None
    payment = payment_open(
        owner_id=owner_id,
        purpose=Payment.Purpose.AUTO_TOPUP,
        amount_cents=decision.amount_cents,
        tax_cents=tax_cents,
    )
    call = card_call(payment, customer_id, card, "Automatic top-up")
    trail_note(
        action="auto_topup.charged", owner_id=owner_id, target=payment.id,
        after={"cents": str(payment.total_cents), "card": card.last4},
    )  # fmt: skip
    step("topup.opened")
    return call


@transaction.atomic
def invoice_charge_start(*, invoice_id: str, now: datetime | None = None) -> OutboxCall | None:
    """Charge an owner's card with an invoice that is open; None without a card, while it is paid, or too soon again."""
    now = now or utc_now()
    owner_id = Invoice.objects.filter(id=invoice_id).values_list("owner_id", flat=True).first() or ""
    try:
        invoice = _invoice_lock(owner_id, invoice_id, states=(Invoice.State.FINAL,))
    except BillingError:
        return None
    tries = Payment.objects.filter(invoice_id=invoice.id)
    is_busy = tries.filter(state=Payment.State.OPEN).exists()
    too_soon = tries.filter(created_at__gt=now - INVOICE_PAUSE).exists()
    card, customer_id = card_default(owner_id=owner_id), customer_id_get(owner_id=owner_id)
    if is_busy or too_soon or tries.count() >= MOST_INVOICE_TRIES or card is None or not customer_id:
        return None
    payment = _invoice_payment(invoice)
    trail_note(
        action="invoice.charged", owner_id=owner_id, target=invoice.id,
        after={"payment": payment.id, "cents": str(payment.total_cents), "card": card.last4},
    )  # fmt: skip
    return card_call(payment, customer_id, card, f"Invoice {invoice.name}")


def invoice_list_chargeable() -> list[str]:
    """Open invoices of owners who left a card, oldest first."""
    cards = SavedCard.objects.filter(removed_at=None, is_default=True)
    rows = Invoice.objects.filter(state=Invoice.State.FINAL, owner_id__in=cards.values("owner_id"))
    return list(rows.order_by("issued_at", "id").values_list("id", flat=True))


def topup_check(amount_cents: int) -> None:
    """Refuse a top-up outside of $5 and $10,000.

    Raises:
        BillingError: `amount_invalid`.
    """
    if not LEAST_TOPUP_CENTS <= amount_cents <= MOST_TOPUP_CENTS:
        raise BillingError("amount_invalid", "A top-up is between $5 and $10,000.")
    cents_check(amount_cents)


def _customer_lock(owner_id: str) -> str:
    row = StripeCustomer.objects.select_for_update().filter(owner_id=owner_id).first()
    if row is None or not row.customer_id:
        raise BillingError("customer_unknown", "The payment provider does not know this owner yet.")
    return row.customer_id


def _invoice_lock(owner_id: str, invoice_id: str, *, states: Collection[str]) -> Invoice:
    invoice = Invoice.objects.select_for_update().filter(id=invoice_id, owner_id=owner_id).first()
    if invoice is None:
        raise BillingError("invoice_unknown", "There is no such invoice.")
    if invoice.state not in states or invoice.paid_cents >= invoice.total_cents:
        raise BillingError("invoice_not_open", "Nothing is open of this invoice.")
    return invoice


def _invoice_payment(invoice: Invoice) -> Payment:
    open_cents = invoice.total_cents - invoice.paid_cents
    tax_cents = invoice.tax_cents if invoice.paid_cents == 0 else 0
    return payment_open(
        owner_id=invoice.owner_id,
        purpose=Payment.Purpose.INVOICE,
        amount_cents=open_cents - tax_cents,
        tax_cents=tax_cents,
        invoice_id=invoice.id,
    )
