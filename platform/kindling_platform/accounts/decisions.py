"""What the operator decides about money that waits for a person: differences, refunds that came back, parked things."""

from django.db import transaction

from kindling_billing.collecting import invoice_write_off
from kindling_billing.comparing.reports import difference_accept
from kindling_billing.models import ComparedMovement, FailedRefund, Invoice, OutboxCall, StripeEvent
from kindling_billing.outbox.deciding import call_close, call_retry
from kindling_billing.returns import refund_credit, refund_paid_otherwise
from kindling_billing.webhooks.receiving import event_close
from kindling_platform.accounts.provider import provider_get, refusals
from kindling_platform.accounts.treasury import wallets_tell
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.jobs import enqueue
from kindling_platform.common.origin import acting_as


@transaction.atomic
def difference_settle(*, movement_id: str, note: str, actor: Actor) -> ComparedMovement:
    """Accept a difference between the provider's books and ours that is explained.

    Raises:
        KindlingError: `difference_unknown`, `note_missing`.
    """
    with refusals():
        row = difference_accept(movement_id=movement_id, note=note, accepted_by=actor.label)
    audit_record(
        actor=actor, action="difference.accepted", target=movement_id, organisation_id=row.owner_id,
        data={"cause": row.cause, "note": row.accepted_note},
    )  # fmt: skip
    return row


def invoice_give_up(*, invoice_id: str, reason: str, actor: Actor) -> Invoice:
    """Give up what is open of an invoice: it becomes a loss; a payment that comes later is taken all the same.

    Raises:
        KindlingError: `invoice_unknown`, `invoice_not_open`, `note_missing`.
    """
    if not reason.strip():
        raise KindlingError("note_missing", "Say why: whoever closes the books will read it.", param="note")
    with refusals(), acting_as(actor):
        return invoice_write_off(invoice_id=invoice_id, reason=reason.strip())


def failed_refund_credit(*, refund_id: str, actor: Actor) -> FailedRefund:
    """Give a refund that came back to the customer's wallet.

    Raises:
        KindlingError: `refund_unknown`, `refund_resolved`.
    """
    with refusals(), acting_as(actor), transaction.atomic():
        row = refund_credit(refund_id=refund_id, resolved_by=actor.label)
        _refund_record(row, actor, "refund.credited")
    wallets_tell([row.payment.owner_id])
    return row


def failed_refund_pay(*, refund_id: str, note: str, actor: Actor) -> FailedRefund:
    """Note how a customer whose refund came back was paid otherwise.

    Raises:
        KindlingError: `refund_unknown`, `refund_resolved`, `note_missing`.
    """
    with refusals(), acting_as(actor), transaction.atomic():
        row = refund_paid_otherwise(refund_id=refund_id, note=note, resolved_by=actor.label)
        _refund_record(row, actor, "refund.paid_otherwise")
    return row


@transaction.atomic
def event_put_aside(*, event_id: str, note: str, actor: Actor) -> StripeEvent:
    """Close a parked event that was dealt with by hand.

    Raises:
        KindlingError: `event_unknown`, `note_missing`.
    """
    with refusals():
        row = event_close(event_id=event_id, note=note)
    audit_record(
        actor=actor, action="payment_event.closed", target=event_id, data={"note": note.strip()[:300]},
        before={"state": "parked"}, after={"state": "closed"},
    )  # fmt: skip
    return row


@transaction.atomic
def request_try_again(*, call_id: str, actor: Actor) -> OutboxCall:
    """Have a request that needs a decision tried again.

    Raises:
        KindlingError: `payments_off`, `request_unknown`.
    """
    provider_get()
    with refusals():
        call = call_retry(call_id=call_id)
    audit_record(
        actor=actor, action="payment_request.retried", target=call_id, organisation_id=call.owner_id,
        before={"trouble": call.trouble}, after={"state": "waiting"},
    )  # fmt: skip
    enqueue("payments.sweep")
    return call


@transaction.atomic
def request_put_aside(*, call_id: str, note: str, actor: Actor) -> OutboxCall:
    """Close a request that was dealt with by hand.

    Raises:
        KindlingError: `request_unknown`, `note_missing`.
    """
    with refusals(), acting_as(actor):
        call = call_close(call_id=call_id, note=note)
    audit_record(
        actor=actor, action="payment_request.closed", target=call_id, organisation_id=call.owner_id,
        data={"note": note.strip()[:300]}, after={"state": "closed"},
    )  # fmt: skip
    return call


@transaction.atomic
def proof_ask(*, actor: Actor) -> None:
    """Have the books proved now rather than within the hour."""
    audit_record(actor=actor, action="proof.asked", target="books")
    enqueue("books.prove")


def _refund_record(row: FailedRefund, actor: Actor, action: str) -> None:
    audit_record(
        actor=actor, action=action, target=row.id, organisation_id=row.payment.owner_id,
        data={"payment": row.payment_id, "cents": str(row.amount_cents), "note": row.note},
        before={"state": "open"}, after={"state": str(row.state)},
    )  # fmt: skip
