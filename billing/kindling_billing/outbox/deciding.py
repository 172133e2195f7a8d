"""What the operator decides about requests that do not come to an end by themselves."""

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall, Payment, utc_now
from kindling_billing.outbox.sending import KEY_IS_GOOD
from kindling_billing.payments import payment_failed
from kindling_billing.webhooks.effects import CALLS_OF_PAYMENTS, payment_of_subject

# What a person has to decide about: what is stuck, and refunds that the provider refused.
UNDECIDED = Q(state=OutboxCall.State.STUCK) | Q(kind=OutboxCall.Kind.REFUND, state=OutboxCall.State.REFUSED)


@transaction.atomic
def call_retry(*, call_id: str, now: datetime | None = None) -> OutboxCall:
    """Have a request tried again: what it has made is looked up first, and only if it made nothing is it sent.

    Raises:
        BillingError: `request_unknown`.
    """
    now = now or utc_now()
    call = _undecided(call_id)
    call.state, call.ended_at, call.due_at = OutboxCall.State.WAITING, None, now
    # As old as a key that the provider has forgotten, so that the sender looks before it sends.
    call.first_sent_at = now - KEY_IS_GOOD
    call.save(update_fields=["state", "ended_at", "due_at", "first_sent_at"])
    return call


@transaction.atomic
def call_close(*, call_id: str, note: str) -> OutboxCall:
    """Note that a request was dealt with by hand; a payment that it was for has come to nothing.

    Raises:
        BillingError: `request_unknown`, `note_missing`.
    """
    if not note.strip():
        raise BillingError("note_missing", "Say what was done about it.")
    call = _undecided(call_id)
    call.state, call.trouble = OutboxCall.State.CLOSED, f"Closed: {note.strip()}"[:300]
    call.save(update_fields=["state", "trouble"])
    if call.kind in CALLS_OF_PAYMENTS:
        payment = payment_of_subject(call.subject)
        if payment is not None and payment.state == Payment.State.OPEN:
            payment_failed(payment_id=payment.id, code="closed", message=note.strip())
    return call


def _undecided(call_id: str) -> OutboxCall:
    call = OutboxCall.objects.select_for_update().filter(UNDECIDED, id=call_id).first()
    if call is None:
        raise BillingError("request_unknown", "There is no such request that needs a decision.")
    return call
