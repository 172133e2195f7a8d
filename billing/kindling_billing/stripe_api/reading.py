"""What is read from Stripe: the present state of things that events are about, and its lists."""

from datetime import datetime
from typing import Any

from kindling_billing.stripe_api.client import StripeApi

# What Kindling wants to hear of; a webhook endpoint needs no other types.
EVENT_TYPES = (
    "payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.canceled",
    "checkout.session.completed", "checkout.session.expired",
    "refund.created", "refund.updated", "refund.failed", "charge.refunded",
    "charge.dispute.created", "charge.dispute.updated", "charge.dispute.funds_withdrawn", "charge.dispute.closed",
    "payment_method.attached", "payment_method.detached", "payment_method.automatically_updated",
    "customer.deleted",
)  # fmt: skip


def intent_read(api: StripeApi, intent_id: str) -> dict[str, Any]:
    """A payment intent as it is now."""
    return api.ask(lambda: api.v1.payment_intents.retrieve(intent_id))


def intent_list(api: StripeApi, *, since: datetime) -> list[dict[str, Any]]:
    """Payment intents made since."""
    return api.rows(lambda asked: api.v1.payment_intents.list(_any(asked)), _since(since))


def session_read(api: StripeApi, session_id: str) -> dict[str, Any]:
    """A Checkout session as it is now."""
    return api.ask(lambda: api.v1.checkout.sessions.retrieve(session_id))


def session_of_intent(api: StripeApi, intent_id: str) -> dict[str, Any] | None:
    """The Checkout session that a payment was made in."""
    asked = {"payment_intent": intent_id}
    rows = api.rows(lambda params: api.v1.checkout.sessions.list(_any(params)), asked)
    return rows[0] if rows else None


def dispute_read(api: StripeApi, dispute_id: str) -> dict[str, Any]:
    """A dispute as it is now."""
    return api.ask(lambda: api.v1.disputes.retrieve(dispute_id))


def refund_read(api: StripeApi, refund_id: str) -> dict[str, Any]:
    """A refund as it is now."""
    return api.ask(lambda: api.v1.refunds.retrieve(refund_id))


def refund_list(api: StripeApi, intent_id: str) -> list[dict[str, Any]]:
    """The refunds of a payment."""
    asked = {"payment_intent": intent_id}
    return api.rows(lambda params: api.v1.refunds.list(_any(params)), asked)


def event_read(api: StripeApi, event_id: str) -> dict[str, Any]:
    """One event; Stripe keeps them for thirty days."""
    return api.ask(lambda: api.v1.events.retrieve(event_id))


def event_list(api: StripeApi, *, since: datetime) -> list[dict[str, Any]]:
    """The events since that Kindling wants to hear of, oldest first."""
    asked = _since(since) | {"types": list(EVENT_TYPES)}
    rows = api.rows(lambda params: api.v1.events.list(_any(params)), asked)
    return rows[::-1]


def movement_list(api: StripeApi, *, since: datetime) -> list[dict[str, Any]]:
    """The movements of Stripe's balance since, oldest first."""
    rows = api.rows(lambda params: api.v1.balance_transactions.list(_any(params)), _since(since))
    return rows[::-1]


def charge_list_between(api: StripeApi, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Charges made from `start` up to `end`, newest first, declined ones included."""
    return api.rows(lambda asked: api.v1.charges.list(_any(asked)), _between(start, end))


def refund_list_between(api: StripeApi, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Refunds made from `start` up to `end`, newest first."""
    return api.rows(lambda asked: api.v1.refunds.list(_any(asked)), _between(start, end))


def dispute_list_between(api: StripeApi, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Disputes opened from `start` up to `end`, newest first."""
    return api.rows(lambda asked: api.v1.disputes.list(_any(asked)), _between(start, end))


def movement_list_between(api: StripeApi, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """The movements of Stripe's balance from `start` up to `end`, newest first."""
    return api.rows(lambda asked: api.v1.balance_transactions.list(_any(asked)), _between(start, end))


def balance_cents(api: StripeApi, currency: str) -> int:
    """What Stripe holds for us in a currency, available or not yet."""
    found = api.ask(api.v1.balance.retrieve)
    held = [*found.get("available", []), *found.get("pending", [])]
    return sum(int(row["amount"]) for row in held if row["currency"] == currency)


def tax_read(api: StripeApi, *, customer_id: str, amount_cents: int, currency: str) -> int:
    """The tax that Stripe puts on a sum for a customer, in cents."""
    asked = {
        "customer": customer_id,
        "currency": currency,
        "line_items": [{"amount": amount_cents, "reference": "credit", "tax_behavior": "exclusive"}],
    }
    return int(api.ask(lambda: api.v1.tax.calculations.create(_any(asked)))["tax_amount_exclusive"])


def portal_open(api: StripeApi, *, customer_id: str, return_url: str) -> str:
    """The address of a page on which a customer changes what Stripe keeps of them; it lives for minutes."""
    asked = {"customer": customer_id, "return_url": return_url}
    return str(api.ask(lambda: api.v1.billing_portal.sessions.create(_any(asked)))["url"])


def _since(moment: datetime) -> dict[str, Any]:
    return {"created": {"gte": int(moment.timestamp())}}


def _between(start: datetime, end: datetime) -> dict[str, Any]:
    return {"created": {"gte": int(start.timestamp()), "lt": int(end.timestamp())}}


def _any(params: dict[str, Any]) -> Any:
    """The client's parameters are typed by endpoint."""
    return params
