"""What payments and their refunds look like to the operator."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.models import Payment
from kindling_billing.refunding import Asked
from kindling_platform.api.payment_shapes import MOST_CENTS, PaymentShape, payment_row
from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape

LONGEST_REASON = 300


class OperatedPaymentShape(PaymentShape):
    intent_id = s.CharField(allow_blank=True, help_text="The provider's id.")
    invoice_id = s.CharField(allow_blank=True, help_text="The invoice that it paid; empty for a top-up.")
    refunded_tax_cents = s.IntegerField(help_text="The tax within `refunded_cents`.")


class RefundGiveShape(StrictShape):
    payment_id = s.CharField(max_length=32)
    amount_cents = s.IntegerField(min_value=1, max_value=2 * MOST_CENTS, help_text="Tax included: 500 is $5.")
    reason = s.CharField(max_length=LONGEST_REASON, help_text="The audit log and the provider keep it.")


class RefundShape(s.Serializer[object]):
    id = s.CharField(
        help_text="The request's, under which it stands among the records if it needs a decision."
    )
    payment_id = s.CharField()
    amount_cents = s.IntegerField()
    reason = s.CharField(allow_blank=True)
    state = s.CharField(
        help_text="waiting while the provider has not answered; done; stuck and closed where a person decided."
    )
    trouble = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()
    ended_at = s.DateTimeField(allow_null=True)


def operated_payment_row(payment: Payment) -> dict[str, Any]:
    return {**payment_row(payment), **plain_row(payment, "intent_id", "invoice_id", "refunded_tax_cents")}


def refund_row(asked: Asked) -> dict[str, Any]:
    return {
        **plain_row(asked, "payment_id", "amount_cents", "reason"),
        **plain_row(asked.call, "id", "state", "trouble", "created_at", "ended_at"),
    }
