"""The requests that change something at Stripe, by the kinds of the outbox: making them, and finding what they made."""

from datetime import datetime, timedelta
from typing import Any

from kindling_billing.stripe_api.client import StripeApi

CALL = "kindling_call"
# Clocks differ, and Stripe's lists begin at a second.
SLACK = timedelta(hours=1)


def call_make(api: StripeApi, *, kind: str, params: dict[str, Any], key: str) -> dict[str, Any]:
    """Make one request under an idempotency key; the object that it made or changed.

    Raises:
        ProviderAway, ProviderRefused.
    """
    given = dict(params)
    options: Any = {"idempotency_key": key}
    match kind:
        case "customer":
            return api.ask(lambda: api.v1.customers.create(_any(given), options))
        case "checkout":
            return api.ask(lambda: api.v1.checkout.sessions.create(_any(given), options))
        case "charge":
            return api.ask(lambda: api.v1.payment_intents.create(_any(given), options))
        case "refund":
            return api.ask(lambda: api.v1.refunds.create(_any(given), options))
        case "forget_card":
            id_ = given.pop("id")
            return api.ask(lambda: api.v1.payment_methods.detach(id_, {}, options))
        case _:
            raise ValueError(kind)


def call_find(
    api: StripeApi, *, kind: str, params: dict[str, Any], call_id: str, since: datetime
) -> dict[str, Any] | None:
    """What a request made, by the id that its metadata carries; None when it did nothing.

    Lists are read rather than searched: Stripe's search lags behind, and a payment that is not found is made again.

    Raises:
        ProviderAway, ProviderRefused.
    """
    created = {"created": {"gte": int((since - SLACK).timestamp())}}
    of_customer = created | {"customer": params.get("customer", "")}
    match kind:
        case "customer":
            rows = api.rows(lambda asked: api.v1.customers.list(_any(asked)), created)
        case "checkout":
            rows = api.rows(lambda asked: api.v1.checkout.sessions.list(_any(asked)), of_customer)
        case "charge":
            rows = api.rows(lambda asked: api.v1.payment_intents.list(_any(asked)), of_customer)
        case "refund":
            wanted = created | {"payment_intent": params["payment_intent"]}
            rows = api.rows(lambda asked: api.v1.refunds.list(_any(asked)), wanted)
        case "forget_card":
            method = api.ask(lambda: api.v1.payment_methods.retrieve(params["id"]))
            return None if method.get("customer") else method
        case _:
            raise ValueError(kind)
    return next((row for row in rows if (row.get("metadata") or {}).get(CALL) == call_id), None)


def _any(params: dict[str, Any]) -> Any:
    """The client's parameters are typed by endpoint; ours were checked where they were written."""
    return params
