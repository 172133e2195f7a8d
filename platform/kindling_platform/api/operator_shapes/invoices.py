"""What invoices and organisations at risk look like to the operator."""

from datetime import datetime
from typing import Any

from rest_framework import serializers as s

from kindling_billing.models import Invoice
from kindling_billing.risk import Age
from kindling_platform.api.money import money
from kindling_platform.api.payment_shapes import InvoiceShape, invoice_row
from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.usage.risk import Risk, RiskRow


class OperatedInvoiceShape(InvoiceShape):
    organisation_id = s.CharField()
    open_cents = s.IntegerField(help_text="What is still to be paid of it, tax included.")
    days_overdue = s.IntegerField()
    reminders = s.IntegerField(help_text="0 to 3; with the third, requests stop.")


class AgeShape(s.Serializer[object]):
    label = s.CharField()  # type: ignore[assignment]  # DRF takes fields out of the class
    invoices = s.IntegerField()
    open_cents = s.IntegerField()


class UnpaidShape(s.Serializer[object]):
    open_cents = s.IntegerField()
    ages = AgeShape(many=True)
    data = OperatedInvoiceShape(many=True, help_text="The longest due first.")  # type: ignore[assignment]


class NoteShape(StrictShape):
    note = s.CharField(max_length=300, help_text="Whoever closes the books will read it.")


class RiskShape(s.Serializer[object]):
    kind = s.CharField()
    text = s.CharField()
    next_step = s.CharField()
    is_severe = s.BooleanField()


class AtRiskRowShape(s.Serializer[object]):
    organisation_id = s.CharField()
    slug = s.CharField()
    name = s.CharField()
    balance_picousd = s.CharField()
    balance_usd = s.CharField()
    spendable_picousd = s.CharField()
    spendable_usd = s.CharField()
    burn_per_day_picousd = s.CharField(help_text="What it spent a day over the last seven.")
    burn_per_day_usd = s.CharField()
    days_left = s.FloatField(allow_null=True)
    open_cents = s.IntegerField()
    overdue_invoices = s.IntegerField()
    disputed_cents = s.IntegerField()
    risks = RiskShape(many=True)


class AtRiskShape(s.Serializer[object]):
    counts = s.DictField(child=s.IntegerField(), help_text="How many organisations have each reason.")
    data = AtRiskRowShape(many=True, help_text="The most severe first.")  # type: ignore[assignment]


def operated_invoice_row(invoice: Invoice, *, at: datetime) -> dict[str, Any]:
    is_open = invoice.state == Invoice.State.FINAL
    overdue = (at - invoice.due_at).days if is_open and invoice.due_at else 0
    return {
        **invoice_row(invoice),
        "organisation_id": invoice.owner_id,
        "open_cents": invoice.total_cents - invoice.paid_cents if is_open else 0,
        "days_overdue": max(overdue, 0),
        "reminders": invoice.dunned,
    }


def age_row(age: Age) -> dict[str, Any]:
    return plain_row(age, "label", "invoices", "open_cents")


def at_risk_row(row: RiskRow) -> dict[str, Any]:
    standing = row.standing
    return {
        "organisation_id": row.org.id,
        **plain_row(row.org, "slug", "name"),
        **money("balance", standing.balance_picousd),
        **money("spendable", standing.spendable_picousd),
        **money("burn_per_day", row.burn_picousd_per_day),
        "days_left": row.days_left,
        "open_cents": standing.open_cents,
        "overdue_invoices": len(standing.overdue),
        "disputed_cents": standing.disputed_cents,
        "risks": [_risk_row(one) for one in row.risks],
    }


def _risk_row(risk: Risk) -> dict[str, Any]:
    return plain_row(risk, "kind", "text", "next_step", "is_severe")
