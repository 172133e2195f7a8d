"""What the provider's yes or no to a request does to the books, in the transaction that ends the request."""

from typing import Any

from django.db import transaction

from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall, Payment, utc_now
from kindling_billing.notices import notice_add
from kindling_billing.payments import payment_failed
from kindling_billing.steps import step
from kindling_billing.stripe_api.outcomes import ProviderRefused
from kindling_billing.terms import auto_topup_pause
from kindling_billing.webhooks.cards import card_gone, customer_gone, customer_known
from kindling_billing.webhooks.effects import (
    CALLS_OF_PAYMENTS,
    intent_apply,
    payment_of_subject,
    refund_apply,
)

MISSING = "resource_missing"
TROUBLE = "provider.trouble"


def call_answered(*, call_id: str, token: str, answer: dict[str, Any]) -> OutboxCall:
    """Book a yes and end the request; a repeat, or a lease that was lost, changes nothing."""
    with transaction.atomic():
        call = _locked(call_id, token)
        if call is None:
            return OutboxCall.objects.get(id=call_id)
        call.result_id = str(answer.get("id", ""))[:80]
        call.result_url = str(answer.get("url") or "")
        try:
            with transaction.atomic():
                _book(call, answer)
            _end(call, OutboxCall.State.DONE)
        except BillingError as error:
            # The provider has done something that the books cannot take: a person has to look.
            _end(call, OutboxCall.State.STUCK, code=error.code, message=error.message)
        step("outbox.applied")
    step("outbox.committed")
    return call


def call_refused(*, call_id: str, token: str, error: ProviderRefused) -> OutboxCall:
    """Book a no and end the request; a repeat, or a lease that was lost, changes nothing."""
    with transaction.atomic():
        call = _locked(call_id, token)
        if call is None:
            return OutboxCall.objects.get(id=call_id)
        if error.intent is not None:
            intent_apply(error.intent)
        elif call.kind in CALLS_OF_PAYMENTS:
            payment_failed(payment_id=call.subject, code=error.code, message=error.message)
        _look_for_cause(call, error)
        state = OutboxCall.State.STUCK if error.code == "idempotency_mismatch" else OutboxCall.State.REFUSED
        _end(call, state, code=error.code, message=error.message)
        step("outbox.applied")
    step("outbox.committed")
    return call


def _locked(call_id: str, token: str) -> OutboxCall | None:
    rows = OutboxCall.objects.select_for_update().filter(id=call_id, state=OutboxCall.State.WAITING)
    return rows.filter(lease_token=token).first()


def _book(call: OutboxCall, answer: dict[str, Any]) -> None:
    match call.kind:
        case "customer":
            customer_known(owner_id=call.owner_id, customer_id=call.result_id)
        case "charge":
            intent_apply(answer)
        case "refund":
            refund_apply(answer)
        case "forget_card":
            card_gone(card_id=call.result_id)


def _look_for_cause(call: OutboxCall, error: ProviderRefused) -> None:
    """Remember what a refusal tells of the owner's customer and card, and stop charging by itself."""
    if error.code == MISSING and error.param == "customer":
        customer_gone(owner_id=call.owner_id, customer_id=str(call.params.get("customer", "")))
    if error.code == MISSING and error.param == "payment_method":
        card_gone(card_id=str(call.params.get("payment_method", "")))
    if call.kind == OutboxCall.Kind.CHARGE:
        payment = payment_of_subject(call.subject)
        if payment is not None and payment.purpose == Payment.Purpose.AUTO_TOPUP:
            auto_topup_pause(owner_id=call.owner_id, reason=error.message)
    if call.kind in {OutboxCall.Kind.REFUND, OutboxCall.Kind.CUSTOMER}:
        data = {"call": call.id, "kind": call.kind, "reason": error.message}
        notice_add(kind=TROUBLE, key=call.id, data=data)


def _end(call: OutboxCall, state: str, *, code: str = "", message: str = "") -> None:
    call.state, call.ended_at = state, utc_now()
    call.trouble_code, call.trouble = code[:64], message[:300]
    call.lease_token, call.lease_expires_at = "", None
    call.save()
