"""What a payment, a refund or a dispute at the provider means for the books. Every function may be repeated.

Each gives the ids of the owners whose money moved. All of them take objects as the provider writes them.
"""

from typing import Any

from kindling_billing.disputes import dispute_closed, dispute_opened
from kindling_billing.errors import BillingError
from kindling_billing.models import OutboxCall, Payment
from kindling_billing.payments import payment_failed, payment_received, payment_refunded
from kindling_billing.returns import refund_failed
from kindling_billing.terms import auto_topup_pause

# What the metadata of our payments says.
PAYMENT, OWNER, TAX, VIA = "kindling_payment", "kindling_owner", "kindling_tax", "kindling_via"
VIA_PAGE, VIA_CARD = "page", "card"
TAX_OF_SESSION = "session"
CALLS_OF_PAYMENTS = {OutboxCall.Kind.CHECKOUT, OutboxCall.Kind.CHARGE}
FAILED = {"requires_payment_method", "canceled"}
REFUNDED = {"succeeded", "pending", "requires_action"}


def is_ours(thing: dict[str, Any]) -> bool:
    """Whether a payment, or its session, was asked for here; others may be made by hand at the provider."""
    return bool((thing.get("metadata") or {}).get(PAYMENT))


def intent_apply(intent: dict[str, Any], *, session_tax_cents: int | None = None) -> set[str]:
    """Book a payment that was made, or note one that came to nothing.

    Raises:
        BillingError: those of `payment_received`; `tax_unknown` when the tax stands in a session that was not read.
    """
    if not is_ours(intent):
        return set()
    told = intent["metadata"]
    owner_id = str(told.get(OWNER, ""))
    if intent["status"] == "succeeded":
        tax_cents = _tax_cents(told, session_tax_cents)
        booked = payment_received(
            intent_id=intent["id"],
            owner_id=owner_id,
            amount_cents=int(intent["amount_received"]) - tax_cents,
            tax_cents=tax_cents,
            currency=intent["currency"],
            payment_id=told[PAYMENT],
        )
        return {owner_id} if booked else set()
    # On the provider's page a declined card is not the end: another one may be tried.
    is_over = intent["status"] == "canceled" or told.get(VIA) == VIA_CARD
    if intent["status"] in FAILED and is_over:
        error = intent.get("last_payment_error") or {}
        code = str(error.get("code") or intent["status"])
        message = str(error.get("message") or "The payment was cancelled.")
        if payment_failed(payment_id=told[PAYMENT], code=code, message=message):
            payment = payment_of_subject(told[PAYMENT])
            if payment is not None and payment.purpose == Payment.Purpose.AUTO_TOPUP:
                auto_topup_pause(owner_id=owner_id, reason=message)
    return set()


def session_expired(session: dict[str, Any]) -> None:
    """Note that nobody paid on a page before it closed."""
    if is_ours(session):
        payment_failed(
            payment_id=session["metadata"][PAYMENT], code="checkout_expired", message="Nobody paid."
        )


def refund_apply(refund: dict[str, Any]) -> set[str]:
    """Book a refund that went out, or note that a booked one came back.

    Raises:
        BillingError: those of `payment_refunded`.
    """
    intent_id = str(refund.get("payment_intent") or "")
    # One that is under way has left the provider's balance already, and may not be spent meanwhile.
    if refund["status"] in REFUNDED:
        booked = payment_refunded(
            refund_id=refund["id"],
            intent_id=intent_id,
            amount_cents=int(refund["amount"]),
            currency=refund["currency"],
        )
        return _owner_of(intent_id) if booked else set()
    if refund["status"] in {"failed", "canceled"}:
        refund_failed(
            refund_id=refund["id"],
            intent_id=intent_id,
            amount_cents=int(refund["amount"]),
            reason=str(refund.get("failure_reason") or ""),
        )
    return set()


def dispute_apply(dispute: dict[str, Any]) -> set[str]:
    """Freeze a contested payment, and settle it when the bank has decided.

    Raises:
        BillingError: those of `dispute_opened`.
    """
    status = dispute["status"]
    if status not in {"needs_response", "under_review", "won", "lost"}:
        return set()
    intent_id = str(dispute.get("payment_intent") or "")
    changed = dispute_opened(
        dispute_id=dispute["id"], intent_id=intent_id, amount_cents=int(dispute["amount"])
    )
    if status in {"won", "lost"}:
        changed = dispute_closed(dispute_id=dispute["id"], won=status == "won") or changed
    return _owner_of(intent_id) if changed else set()


def payment_booked(intent_id: str) -> bool:
    """Whether the payment of an intent is in the books."""
    return Payment.objects.filter(intent_id=intent_id, state=Payment.State.SUCCEEDED).exists()


def payment_of_subject(payment_id: str) -> Payment | None:
    """A payment by its own id."""
    return Payment.objects.filter(id=payment_id).first()


def _tax_cents(told: dict[str, str], session_tax_cents: int | None) -> int:
    text = str(told.get(TAX, "0"))
    if text != TAX_OF_SESSION:
        return int(text)
    if session_tax_cents is None:
        raise BillingError("tax_unknown", "The tax of this payment has to be read first.")
    return session_tax_cents


def _owner_of(intent_id: str) -> set[str]:
    return set(Payment.objects.filter(intent_id=intent_id).values_list("owner_id", flat=True))
