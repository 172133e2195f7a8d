"""Asks for money to be given back to the card that paid: once for a reference, whoever asks again and whenever."""

from dataclasses import dataclass

from django.db import connection, transaction

from kindling_billing.amounts import cents_check
from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall, Payment
from kindling_billing.outbox.writing import call_add
from kindling_billing.webhooks.effects import PAYMENT

# Stands in the refund's metadata at the provider, where whoever looks at it there reads why.
REASON = "kindling_reason"


@dataclass(frozen=True, slots=True)
class Asked:
    """The request of a refund, and whether it was asked for before."""

    call: OutboxCall
    is_repeated: bool

    @property
    def payment_id(self) -> str:
        """Which payment is given back."""
        return payment_id_of(self.call)

    @property
    def amount_cents(self) -> int:
        """How much of it, tax included."""
        return int(self.call.params["amount"])

    @property
    def reason(self) -> str:
        """Why, as whoever asked has said."""
        return str(self.call.params["metadata"].get(REASON, ""))


@transaction.atomic
def refund_start(
    *, owner_id: str, payment_id: str, amount_cents: int, reference: str, reason: str = ""
) -> Asked:
    """Give money back, tax included in the amount; once per `reference`, whatever became of it.

    Raises:
        BillingError: `amount_invalid`, `payment_unknown`, `refund_too_large`, `refund_differs` when the reference was
            used for another refund.
    """
    cents_check(amount_cents)
    _reference_lock(reference)
    if earlier := _find(reference):
        if (earlier.call.owner_id, earlier.payment_id, earlier.amount_cents, earlier.reason) != (
            owner_id, payment_id, amount_cents, reason,
        ):  # fmt: skip
            raise BillingError("refund_differs", "Another refund was asked for this way. Begin a new one.")
        return earlier
    payment = Payment.objects.select_for_update().filter(id=payment_id, owner_id=owner_id).first()
    if payment is None or payment.state != Payment.State.SUCCEEDED:
        raise BillingError("payment_unknown", "There is no such payment that succeeded.")
    if payment.refunded_cents + _under_way_cents(payment) + amount_cents > payment.total_cents:
        raise BillingError("refund_too_large", "More would be given back than was paid.")
    metadata = {PAYMENT: payment.id} | ({REASON: reason} if reason else {})
    params = {"payment_intent": payment.intent_id, "amount": amount_cents, "metadata": metadata}
    subject = f"{payment.id}:{reference}"
    call = call_add(kind=OutboxCall.Kind.REFUND, subject=subject, owner_id=payment.owner_id, params=params)
    return Asked(call, is_repeated=False)


def payment_id_of(call: OutboxCall) -> str:
    """The payment that a refund's request is about."""
    return call.subject.partition(":")[0]


def _reference_lock(reference: str) -> None:
    """Of two who ask for the same, the second waits here until the transaction of the first has ended."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"kindling.refund:{reference}"])


def _find(reference: str) -> Asked | None:
    rows = OutboxCall.objects.filter(kind=OutboxCall.Kind.REFUND, subject__endswith=f":{reference}")
    call = rows.first()
    return None if call is None else Asked(call, is_repeated=True)


def _under_way_cents(payment: Payment) -> int:
    """What was asked for and is not decided."""
    waiting = OutboxCall.objects.filter(
        kind=OutboxCall.Kind.REFUND, state=OutboxCall.State.WAITING, params__payment_intent=payment.intent_id
    )
    return sum(int(call.params["amount"]) for call in waiting)
