"""The endpoints, and the parameters that each of them takes."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from kindling_billing.fake_stripe import balance, customers, events, intents, refunds, sessions, tax
from kindling_billing.fake_stripe.errors import invalid
from kindling_billing.fake_stripe.world import Body

PAGING = ("limit", "starting_after", "created", "expand")
PERSON = ("email", "name", "metadata", "address", "description")
ASKING = (
    "amount", "currency", "customer", "payment_method", "confirm", "off_session", "metadata", "description",
    "setup_future_usage", "receipt_email", "payment_method_types", "expand",
)  # fmt: skip
CHECKOUT = (
    "mode", "customer", "line_items", "success_url", "cancel_url", "metadata", "payment_intent_data",
    "automatic_tax", "client_reference_id", "customer_update", "tax_id_collection", "payment_method_types",
    "billing_address_collection", "expires_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path, what answers it, and what may be asked."""

    method: str
    path: str
    handle: Callable[..., Body]
    takes: tuple[str, ...] = ()

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The path's parameters when this endpoint is meant."""
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path)
        found = re.fullmatch(pattern, path) if method == self.method else None
        return found.groupdict() if found else None

    def check(self, params: Body) -> None:
        """Refuse a parameter that the endpoint does not take."""
        unknown = sorted(set(params) - set(self.takes) - {"expand"})
        if unknown:
            text = f"Received unknown parameter: {unknown[0]}"
            raise invalid(text, code="parameter_unknown", param=unknown[0])


ENDPOINTS = (
    Endpoint("POST", "/v1/customers", customers.customer_create, PERSON),
    Endpoint("GET", "/v1/customers", customers.customer_list, (*PAGING, "email")),
    Endpoint("GET", "/v1/customers/{id}", customers.customer_get),
    Endpoint("POST", "/v1/customers/{id}", customers.customer_update, PERSON),
    Endpoint("DELETE", "/v1/customers/{id}", customers.customer_delete),
    Endpoint("GET", "/v1/payment_methods", customers.method_list, (*PAGING, "customer", "type")),
    Endpoint("GET", "/v1/payment_methods/{id}", customers.method_get),
    Endpoint("POST", "/v1/payment_methods/{id}/attach", customers.method_attach, ("customer",)),
    Endpoint("POST", "/v1/payment_methods/{id}/detach", customers.method_detach),
    Endpoint("POST", "/v1/checkout/sessions", sessions.checkout_create, CHECKOUT),
    Endpoint("GET", "/v1/checkout/sessions", sessions.checkout_list, (*PAGING, "customer", "payment_intent")),
    Endpoint("GET", "/v1/checkout/sessions/{id}", sessions.checkout_get),
    Endpoint("POST", "/v1/checkout/sessions/{id}/expire", sessions.checkout_expire),
    Endpoint("POST", "/v1/billing_portal/sessions", sessions.portal_create, ("customer", "return_url")),
    Endpoint("POST", "/v1/payment_intents", intents.intent_create, ASKING),
    Endpoint("GET", "/v1/payment_intents", intents.intent_list, (*PAGING, "customer")),
    Endpoint("GET", "/v1/payment_intents/{id}", intents.intent_get),
    Endpoint("POST", "/v1/payment_intents/{id}/cancel", intents.intent_cancel, ("cancellation_reason",)),
    Endpoint("GET", "/v1/charges", intents.charge_list, (*PAGING, "customer", "payment_intent")),
    Endpoint("GET", "/v1/charges/{id}", intents.charge_get),
    Endpoint(
        "POST", "/v1/refunds", refunds.refund_create, ("payment_intent", "amount", "metadata", "reason")
    ),
    Endpoint("GET", "/v1/refunds", refunds.refund_list, (*PAGING, "payment_intent")),
    Endpoint("GET", "/v1/refunds/{id}", refunds.refund_get),
    Endpoint("GET", "/v1/disputes", refunds.dispute_list, (*PAGING, "payment_intent")),
    Endpoint("GET", "/v1/disputes/{id}", refunds.dispute_get),
    Endpoint("GET", "/v1/balance", balance.balance_get),
    Endpoint("GET", "/v1/balance_transactions", balance.movement_list, (*PAGING, "type")),
    Endpoint("POST", "/v1/payouts", balance.payout_create, ("amount", "currency", "metadata")),
    Endpoint("POST", "/v1/tax/calculations", tax.calculation_create, ("currency", "customer", "line_items")),
    Endpoint("GET", "/v1/events", events.event_list, (*PAGING, "type", "types")),
    Endpoint("GET", "/v1/events/{id}", events.event_get),
)


def endpoint_find(method: str, path: str) -> tuple[Endpoint, dict[str, str]]:
    """The endpoint of a request and its path's parameters."""
    for endpoint in ENDPOINTS:
        names = endpoint.match(method, path)
        if names is not None:
            return endpoint, names
    raise invalid(f"Unrecognized request URL ({method}: {path}).", status=404)
