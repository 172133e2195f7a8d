"""Reads payments, their requests to the provider, and what the operator has to look at."""

from dataclasses import dataclass

from django.db.models import QuerySet

from kindling_billing.models import AutoTopUp, OutboxCall, Payment, Reconciliation, StripeEvent
from kindling_billing.outbox.deciding import UNDECIDED
from kindling_billing.topup import charged_this_month


@dataclass(frozen=True, slots=True)
class PagePayment:
    """A payment on the provider's page, and the page's address once there is one."""

    payment: Payment
    url: str
    trouble: str


def payment_list(*, owner_id: str) -> QuerySet[Payment]:
    """An owner's payments, newest first."""
    return Payment.objects.filter(owner_id=owner_id).order_by("-created_at", "-id")


def payment_find(*, owner_id: str, payment_id: str) -> PagePayment | None:
    """One of an owner's payments."""
    payment = Payment.objects.filter(owner_id=owner_id, id=payment_id).first()
    if payment is None:
        return None
    call = OutboxCall.objects.filter(kind=OutboxCall.Kind.CHECKOUT, subject=payment_id).first()
    return PagePayment(payment, call.result_url if call else "", call.trouble if call else "")


def auto_topup_get(*, owner_id: str) -> AutoTopUp | None:
    """An owner's wish to be topped up by themselves, None when there never was one."""
    return AutoTopUp.objects.filter(owner_id=owner_id).first()


def auto_topup_charged_cents(*, owner_id: str) -> int:
    """What was charged by itself this month, or may still be."""
    return charged_this_month(owner_ids=[owner_id]).get(owner_id, 0)


def reconciliation_list(*, limit: int = 20) -> list[Reconciliation]:
    """The last comparisons with the provider's books, newest first."""
    return list(Reconciliation.objects.order_by("-run_at", "-id")[:limit])


def event_find_parked() -> QuerySet[StripeEvent]:
    """Every event that the books could not take, newest first."""
    return StripeEvent.objects.filter(state=StripeEvent.State.PARKED).order_by("-heard_at", "-id")


def event_list_parked(*, limit: int = 50) -> list[StripeEvent]:
    """Events that the books could not take, newest first."""
    return list(StripeEvent.objects.filter(state=StripeEvent.State.PARKED).order_by("-heard_at")[:limit])


def call_list_undecided() -> QuerySet[OutboxCall]:
    """Requests that a person has to decide about, newest first: stuck ones, and refunds that were refused."""
    return OutboxCall.objects.filter(UNDECIDED).order_by("-created_at", "-id")


def call_list_open(*, limit: int = 50) -> list[OutboxCall]:
    """Requests that have not ended well: waiting ones that were tried, and stuck ones; oldest first."""
    waiting = OutboxCall.objects.filter(state=OutboxCall.State.WAITING, attempts__gt=0)
    stuck = OutboxCall.objects.filter(state=OutboxCall.State.STUCK)
    return list((waiting | stuck).order_by("created_at")[:limit])
