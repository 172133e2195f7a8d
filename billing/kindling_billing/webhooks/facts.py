"""Reads what an event is about before its effect is booked: no transaction is open while the provider is asked.

Events come late, doubled and in any order. So an event only says where to look; what is booked is the present state,
and the payment that a refund or a dispute is about comes with it while it is not in the books.
"""

from dataclasses import dataclass, field
from typing import Any

from kindling_billing.stripe_api import reading
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderRefused
from kindling_billing.webhooks import cards, effects

Thing = dict[str, Any]


@dataclass(slots=True)
class Facts:
    """Things as they are at the provider, in the order in which they are booked; intents with their session's tax."""

    intents: list[tuple[Thing, int | None]] = field(default_factory=list)
    sessions: list[Thing] = field(default_factory=list)
    refunds: list[Thing] = field(default_factory=list)
    disputes: list[Thing] = field(default_factory=list)
    methods: list[Thing] = field(default_factory=list)
    customers_gone: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to book."""
        return not any(
            (self.intents, self.sessions, self.refunds, self.disputes, self.methods, self.customers_gone)
        )


def facts_read(api: StripeApi, event: Thing) -> Facts:
    """What an event is about, as it is now.

    Raises:
        ProviderAway, ProviderRefused.
    """
    facts, thing = Facts(), event["data"]["object"]
    match event["type"]:
        case "payment_intent.succeeded" | "payment_intent.payment_failed" | "payment_intent.canceled":
            _intent_add(api, facts, thing["id"], only_ours=thing)
        case "checkout.session.completed":
            if effects.is_ours(thing) and thing.get("payment_intent"):
                _intent_add(api, facts, thing["payment_intent"])
        case "checkout.session.expired":
            facts.sessions.append(thing)
        case "refund.created" | "refund.updated" | "refund.failed":
            _payment_first(api, facts, thing)
            facts.refunds.append(reading.refund_read(api, thing["id"]))
        case "charge.refunded":
            _payment_first(api, facts, thing)
            if facts.intents or effects.payment_booked(str(thing.get("payment_intent") or "")):
                facts.refunds += reading.refund_list(api, thing["payment_intent"])
        # An inquiry becomes a dispute by an update, and then the money is gone.
        case (
            "charge.dispute.created"
            | "charge.dispute.updated"
            | "charge.dispute.funds_withdrawn"
            | "charge.dispute.closed"
        ):
            _payment_first(api, facts, thing)
            facts.disputes.append(reading.dispute_read(api, thing["id"]))
        case "payment_method.attached" | "payment_method.detached" | "payment_method.automatically_updated":
            facts.methods.append(_method_now(api, thing))
        case "customer.deleted":
            facts.customers_gone.append(thing["id"])
    return facts


def facts_apply(facts: Facts) -> set[str]:
    """Book everything; the ids of the owners whose money moved. Call it inside a transaction.

    Raises:
        BillingError: what the books cannot take.
    """
    owners: set[str] = set()
    for intent, tax_cents in facts.intents:
        owners |= effects.intent_apply(intent, session_tax_cents=tax_cents)
    for session in facts.sessions:
        effects.session_expired(session)
    for refund in facts.refunds:
        owners |= effects.refund_apply(refund)
    for dispute in facts.disputes:
        owners |= effects.dispute_apply(dispute)
    for method in facts.methods:
        cards.card_apply(method)
    for customer_id in facts.customers_gone:
        cards.customer_gone(customer_id=customer_id)
    return owners


def intent_with_tax(api: StripeApi, intent: Thing) -> tuple[Thing, int | None]:
    """A payment, and the tax that was put on it on the provider's page when nobody here said how much.

    Raises:
        ProviderAway, ProviderRefused.
    """
    told = intent.get("metadata") or {}
    if told.get(effects.TAX) != effects.TAX_OF_SESSION or intent["status"] != "succeeded":
        return intent, None
    session = reading.session_of_intent(api, intent["id"])
    return intent, int(session["total_details"]["amount_tax"]) if session else None


def _intent_add(api: StripeApi, facts: Facts, intent_id: str, *, only_ours: Thing | None = None) -> None:
    if only_ours is None or effects.is_ours(only_ours):
        facts.intents.append(intent_with_tax(api, reading.intent_read(api, intent_id)))


def _payment_first(api: StripeApi, facts: Facts, thing: Thing) -> None:
    intent_id = str(thing.get("payment_intent") or "")
    if intent_id and not effects.payment_booked(intent_id):
        _intent_add(api, facts, intent_id)


def _method_now(api: StripeApi, told: Thing) -> Thing:
    try:
        return api.ask(lambda: api.v1.payment_methods.retrieve(told["id"]))
    except ProviderRefused:
        return told | {"customer": None}
