"""What price plans and terms look like to the operator."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.models import PlanTerm, PricePlan, Terms
from kindling_billing.terms import MAX_OWN_REPLICAS
from kindling_platform.api.money import MOST_DIGITS, money
from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape


class PlanShape(s.Serializer[object]):
    id = s.CharField()
    name = s.CharField()
    organisations = s.ListField(child=s.CharField(), help_text="The ids of those that are on it now.")
    created_at = s.DateTimeField()
    created_by = s.CharField(allow_blank=True)


class PlanMakeShape(StrictShape):
    name = s.CharField(max_length=80)


class PlanTermShape(s.Serializer[object]):
    plan_id = s.CharField(allow_blank=True, help_text="Empty: what everybody pays.")
    valid_from = s.DateTimeField()
    created_at = s.DateTimeField()
    created_by = s.CharField(allow_blank=True)


class PlanAssignShape(StrictShape):
    plan_id = s.CharField(max_length=32, allow_blank=True, help_text="Empty: what everybody pays.")
    valid_from = s.DateTimeField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: now. The past stays as it was billed.",
    )


class TermsChangeShape(StrictShape):
    mode = s.CharField(
        required=False, max_length=16, help_text="prepaid: from credit; postpaid: by monthly invoice."
    )
    credit_limit_usd = s.CharField(
        required=False, max_length=MOST_DIGITS, help_text="How much may be owed, open invoices included."
    )
    net_days = s.IntegerField(required=False, min_value=0, max_value=120)
    tax_basis_points = s.IntegerField(
        required=False, min_value=0, max_value=10_000, help_text="1900 is 19 percent."
    )
    own_replicas = s.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_OWN_REPLICAS,
        help_text="How many replicas of deployments that it makes itself may run at once; 0: it makes none.",
    )


class TermsShape(s.Serializer[object]):
    mode = s.CharField()
    credit_limit_picousd = s.CharField()
    credit_limit_usd = s.CharField()
    net_days = s.IntegerField()
    tax_basis_points = s.IntegerField()
    own_replicas = s.IntegerField(help_text="How many replicas it may deploy for itself.")
    low_balance_picousd = s.CharField()
    low_balance_usd = s.CharField()
    bill_to = s.CharField(allow_blank=True)
    tax_id = s.CharField(allow_blank=True)
    unpaid_since = s.DateTimeField(allow_null=True, help_text="Since when an overdue invoice stops requests.")
    unpaid_reason = s.CharField(allow_blank=True)


def plan_row(plan: PricePlan, owners: dict[str, list[str]]) -> dict[str, Any]:
    return {
        **plain_row(plan, "id", "name", "created_at", "created_by"),
        "organisations": sorted(owners.get(plan.id, [])),
    }


def plan_term_row(term: PlanTerm) -> dict[str, Any]:
    return plain_row(term, "plan_id", "valid_from", "created_at", "created_by")


def terms_row(terms: Terms) -> dict[str, Any]:
    return {
        **plain_row(terms, "mode", "net_days", "tax_basis_points", "own_replicas", "bill_to", "tax_id"),
        **money("credit_limit", terms.credit_limit_picousd),
        **money("low_balance", terms.low_balance_picousd),
        "unpaid_since": terms.suspended_at,
        "unpaid_reason": terms.suspended_reason,
    }
