"""What organisations and their credit look like to the operator."""

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers as s

from kindling_billing.models import CreditGrant, Terms
from kindling_billing.selectors import Balance
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.stops import Suspension
from kindling_platform.api.money import MOST_DIGITS, money
from kindling_platform.api.operator_shapes.revenue import UsedShape
from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.usage.reports import UsageSum

NOTHING = Balance(0, 0)
LONGEST_REASON = 300


class OperatedOrganisationShape(s.Serializer[object]):
    id = s.CharField()
    slug = s.CharField()
    name = s.CharField()
    is_operator = s.BooleanField()
    state = s.CharField(
        help_text="active; suspended by the operator; unpaid, while an invoice is overdue; deleting; deleted."
    )
    balance_picousd = s.CharField()
    balance_usd = s.CharField()
    created_at = s.DateTimeField()
    suspended_at = s.DateTimeField(allow_null=True, help_text="By the operator.")


class PeriodUsageShape(UsedShape):
    gpu_time_picousd = s.CharField(help_text="Of its own deployments, beside the requests.")
    gpu_time_usd = s.CharField()


class OneOperatedOrganisationShape(OperatedOrganisationShape):
    suspended_reason = s.CharField(
        allow_blank=True,
        help_text="What the operator wrote when suspending it, while the audit log keeps it.",
    )
    unpaid_reason = s.CharField(allow_blank=True, help_text="Why requests are refused while it is unpaid.")
    spendable_picousd = s.CharField(
        help_text="What it may still spend, its credit limit included; nothing while requests are refused."
    )
    spendable_usd = s.CharField()
    members = s.IntegerField()
    month = PeriodUsageShape(help_text="What it has used this month (UTC).")


class ReasonShape(StrictShape):
    reason = s.CharField(max_length=LONGEST_REASON, help_text="The audit log keeps it.")


class GrantShape(s.Serializer[object]):
    id = s.CharField()
    kind = s.CharField(help_text="promo was given, paid was bought, returned came back from a refund.")
    memo = s.CharField(allow_blank=True)
    amount_picousd = s.CharField()
    amount_usd = s.CharField()
    remaining_picousd = s.CharField()
    remaining_usd = s.CharField()
    expires_at = s.DateTimeField(allow_null=True)
    expired_at = s.DateTimeField(allow_null=True)
    created_at = s.DateTimeField()


class GrantGiveShape(StrictShape):
    amount_usd = s.CharField(max_length=MOST_DIGITS, help_text="Dollars as text, such as 25 or 0.50.")
    memo = s.CharField(
        max_length=120, help_text="What it is for; stands in the customer's ledger and the audit log."
    )
    expires_at = s.DateTimeField(required=False, allow_null=True, default=None)


def organisation_row(org: Organisation, *, balance: Balance | None, is_unpaid: bool) -> dict[str, Any]:
    """One line of the list."""
    state = _state(org, is_unpaid=is_unpaid)
    names = ("id", "slug", "name", "is_operator", "created_at")
    suspended_at = None if org.deleting_at else org.suspended_at
    return {
        **plain_row(org, *names),
        "suspended_at": suspended_at,
        "state": state,
        **money("balance", (balance or NOTHING).picousd),
    }


def one_organisation_row(
    org: Organisation,
    *,
    balance: Balance,
    spendable: Mapping[str, Balance],
    terms: Terms,
    suspension: Suspension | None,
    members: int,
    month: UsageSum,
    gpu_month_picousd: int,
) -> dict[str, Any]:
    """An organisation with where it stands."""
    return {
        **organisation_row(org, balance=balance, is_unpaid=terms.suspended_at is not None),
        "suspended_reason": suspension.reason if suspension else "",
        "unpaid_reason": terms.suspended_reason,
        **money("spendable", spendable.get(org.id, balance).picousd),
        "members": members,
        "month": {
            **plain_row(month, "requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens"),
            **money("cost", month.cost_picousd),
            **money("gpu_time", gpu_month_picousd),
        },
    }


def grant_row(grant: CreditGrant) -> dict[str, Any]:
    names = ("id", "kind", "memo", "expires_at", "expired_at", "created_at")
    return {
        **plain_row(grant, *names),
        **money("amount", int(grant.amount_picousd)),
        **money("remaining", int(grant.remaining_picousd)),
    }


def _state(org: Organisation, *, is_unpaid: bool) -> str:
    if org.deleting_at:
        return "deleted" if org.deleted_at else "deleting"
    return "suspended" if org.suspended_at else "unpaid" if is_unpaid else "active"
