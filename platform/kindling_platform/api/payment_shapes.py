"""What payments, cards and invoices look like in JSON; amounts are whole cents."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape

MOST_CENTS = 100_000_000


class TopUpShape(StrictShape):
    amount_cents = s.IntegerField(min_value=1, max_value=MOST_CENTS, help_text="Without tax: 500 is $5.")


class PaymentShape(s.Serializer[object]):
    id = s.CharField()
    purpose = s.CharField(help_text="topup, auto_topup or invoice")
    state = s.CharField(help_text="open, succeeded or failed")
    amount_cents = s.IntegerField()
    tax_cents = s.IntegerField()
    refunded_cents = s.IntegerField()
    currency = s.CharField()
    failure_code = s.CharField(allow_blank=True)
    failure = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()
    ended_at = s.DateTimeField(allow_null=True)


class PaymentMadeShape(PaymentShape):
    url = s.CharField(allow_blank=True, help_text="Where it is paid, while it is open.")


class PortalShape(s.Serializer[object]):
    url = s.CharField()


class AutoTopUpShape(StrictShape):
    enabled = s.BooleanField(read_only=True)
    paused_reason = s.CharField(read_only=True)
    threshold_cents = s.IntegerField(min_value=1, max_value=MOST_CENTS)
    amount_cents = s.IntegerField(min_value=1, max_value=MOST_CENTS)
    monthly_cap_cents = s.IntegerField(min_value=1, max_value=MOST_CENTS)


class CardShape(s.Serializer[object]):
    id = s.CharField()
    brand = s.CharField()
    last4 = s.CharField()
    exp_month = s.IntegerField()
    exp_year = s.IntegerField()
    is_default = s.BooleanField()


class InvoiceShape(s.Serializer[object]):
    id = s.CharField()
    number = s.CharField(allow_blank=True)
    month = s.DateField()
    state = s.CharField(help_text="draft, final, paid or uncollectible")
    exact_picousd = s.CharField()
    due_cents = s.IntegerField()
    tax_cents = s.IntegerField()
    paid_cents = s.IntegerField()
    issued_at = s.DateTimeField(allow_null=True)
    due_at = s.DateTimeField(allow_null=True)


def payment_row(payment: Any) -> dict[str, Any]:
    return plain_row(payment, *PaymentShape().get_fields())


def auto_topup_row(wish: Any) -> dict[str, Any]:
    return plain_row(wish, *AutoTopUpShape().get_fields())


def card_row(card: Any) -> dict[str, Any]:
    return plain_row(card, *CardShape().get_fields())


def invoice_row(invoice: Any) -> dict[str, Any]:
    names = ("id", "month", "state", "due_cents", "tax_cents", "paid_cents", "issued_at", "due_at")
    exact = str(int(invoice.exact_picousd))
    return {**plain_row(invoice, *names), "number": invoice.name, "exact_picousd": exact}
