"""What the operator does about money: refunds, parked events, and telling wallets that money moved."""

from collections.abc import Iterable
from dataclasses import replace

from django.db import transaction

from kindling_billing.comparing.days import days_compare
from kindling_billing.comparing.reports import contact_note
from kindling_billing.models import Reconciliation
from kindling_billing.outbox.sending import call_send
from kindling_billing.refunding import Asked, refund_start
from kindling_billing.webhooks.receiving import Receipt, event_retry
from kindling_billing.webhooks.reconciling import reconcile
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.provider import provider_get, refusals
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.jobs import enqueue

MOST_REASON_CHARS = 300


def refund_give(
    *, org: Organisation, payment_id: str, amount_cents: int, reference: str, reason: str, actor: Actor
) -> Asked:
    """Give money back to the card that paid, once per `reference`; it leaves the wallet when the provider agrees.

    Raises:
        KindlingError: `payments_off`, `reason_missing`, `amount_invalid`, `payment_unknown`, `refund_too_large`,
            `refund_differs`.
    """
    if not reason.strip():
        raise KindlingError("reason_missing", "Say why: the audit log and Stripe keep it.", param="reason")
    api, reason = provider_get(), reason.strip()[:MOST_REASON_CHARS]
    with refusals():
        with transaction.atomic():
            asked = refund_start(
                owner_id=org.id, payment_id=payment_id, amount_cents=amount_cents, reference=reference, reason=reason
            )  # fmt: skip
            if not asked.is_repeated:
                _refund_record(org, asked, actor)
            enqueue("payments.sweep")
        call = call_send(api, call_id=asked.call.id)
    wallets_tell([org.id])
    return replace(asked, call=call)


def event_try_again(*, event_id: str, actor: Actor) -> Receipt:
    """Try an event again that the books could not take.

    Raises:
        KindlingError: `payments_off`, `event_unknown`, `payment_provider_away`.
    """
    api = provider_get()
    with refusals():
        receipt = event_retry(api, event_id=event_id)
    audit_record(
        actor=actor, action="payment_event.retried", target=event_id,
        before={"state": "parked"}, after={"state": receipt.state},
    )  # fmt: skip
    wallets_tell(receipt.owner_ids)
    return receipt


def books_reconcile() -> Reconciliation:
    """Compare the provider's books with ours, book what nobody told of, and keep what every day's movements say.

    Raises:
        KindlingError: `payments_off`, `payment_provider_away`, `payment_provider_refused`.
    """
    api = provider_get()
    try:
        with refusals():
            row, owner_ids = reconcile(api)
            wallets_tell(owner_ids)
            days_compare(api)
    except KindlingError as error:
        contact_note(trouble=f"{error.code}: {error.message}")
        raise
    contact_note()
    return row


def wallets_tell(owner_ids: Iterable[str]) -> None:
    """Have the gateway's copies of these balances brought up to date."""
    for owner_id in sorted(set(owner_ids)):
        enqueue("payments.tell_wallet", owner_id=owner_id)


def _refund_record(org: Organisation, asked: Asked, actor: Actor) -> None:
    data = {
        "payment": asked.payment_id,
        "cents": str(asked.amount_cents),
        "request": asked.call.id,
        "reason": asked.reason,
    }
    audit_record(actor=actor, action="refund.given", target=org.id, organisation_id=org.id, data=data)
