"""The requests by which a payment is made: on the provider's page, or with a saved card."""

from typing import Any

from kindling_billing.amounts import CURRENCY
from kindling_billing.models import OutboxCall, Payment, SavedCard
from kindling_billing.outbox.writing import call_add
from kindling_billing.webhooks.effects import OWNER, PAYMENT, TAX, TAX_OF_SESSION, VIA, VIA_CARD, VIA_PAGE


def page_call(
    payment: Payment, customer_id: str, what: str, return_url: str, *, tax_by_provider: bool
) -> OutboxCall:
    """The request for a page on which a payment is made; `{payment}` in the address becomes the payment's id."""
    tax = TAX_OF_SESSION if tax_by_provider else str(payment.tax_cents)
    told = _told(payment, VIA_PAGE, tax)
    url = return_url.replace("{payment}", payment.id)
    params: dict[str, Any] = {
        "mode": "payment",
        "customer": customer_id,
        "line_items": [_line(what, payment.amount_cents)],
        "success_url": url,
        "cancel_url": f"{url}?cancelled=1",
        "client_reference_id": payment.id,
        "metadata": told,
        "payment_intent_data": {"metadata": told, "description": what, "setup_future_usage": "off_session"},
    }
    if tax_by_provider:
        params |= {
            "automatic_tax": {"enabled": True},
            "customer_update": {"address": "auto", "name": "auto"},
            "tax_id_collection": {"enabled": True},
        }
    elif payment.tax_cents:
        params["line_items"].append(_line("Tax", payment.tax_cents))
    return call_add(
        kind=OutboxCall.Kind.CHECKOUT, subject=payment.id, owner_id=payment.owner_id, params=params
    )


def card_call(payment: Payment, customer_id: str, card: SavedCard, what: str) -> OutboxCall:
    """The request that charges a saved card while nobody is there to be asked."""
    params = {
        "amount": payment.total_cents,
        "currency": CURRENCY,
        "customer": customer_id,
        "payment_method": card.id,
        "confirm": True,
        "off_session": True,
        "description": what,
        "metadata": _told(payment, VIA_CARD, str(payment.tax_cents)),
    }
    return call_add(kind=OutboxCall.Kind.CHARGE, subject=payment.id, owner_id=payment.owner_id, params=params)


def _told(payment: Payment, via: str, tax: str) -> dict[str, str]:
    return {PAYMENT: payment.id, OWNER: payment.owner_id, VIA: via, TAX: tax}


def _line(name: str, cents: int) -> dict[str, Any]:
    data = {"currency": CURRENCY, "unit_amount": cents, "product_data": {"name": name}}
    return {"price_data": data, "quantity": 1}
