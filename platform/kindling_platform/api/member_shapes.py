"""What members look like in JSON."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.budgets import Spent
from kindling_platform.accounts.models import Membership
from kindling_platform.api.money import money
from kindling_platform.usage.bounds import NOTHING


class MemberShape(s.Serializer[object]):
    id = s.CharField(help_text="The user's, as limits name it.")
    email = s.CharField()
    name = s.CharField(allow_blank=True)
    role = s.CharField(help_text="owner, admin, developer, viewer or billing.")
    since = s.DateTimeField()
    spent_day_picousd = s.CharField(help_text="Requests of keys that the member has made, today (UTC).")
    spent_day_usd = s.CharField()
    spent_month_picousd = s.CharField()
    spent_month_usd = s.CharField()
    spent_total_picousd = s.CharField()
    spent_total_usd = s.CharField()


def member_row(member: Membership, spent: Spent | None) -> dict[str, Any]:
    """A member as `MemberShape` describes it."""
    sums = spent or NOTHING
    return {
        "id": member.user_id,
        "email": member.user.email,
        "name": member.user.name,
        "role": member.role,
        "since": member.created_at,
        **money("spent_day", sums.day_picousd),
        **money("spent_month", sums.month_picousd),
        **money("spent_total", sums.total_picousd),
    }
