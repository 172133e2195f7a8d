"""What members and invitations look like in JSON."""

from typing import Any

from rest_framework import serializers as s

from kindling_billing.budgets import Spent
from kindling_platform.accounts.models import Invitation, Membership
from kindling_platform.api.money import money
from kindling_platform.api.rows import plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.usage.bounds import NOTHING


class MemberShape(s.Serializer[object]):
    id = s.CharField(help_text="The user's, as limits name it.")
    email = s.CharField()
    name = s.CharField(allow_blank=True)
    role = s.CharField(help_text="owner, admin, developer, viewer or billing.")
    second_factor = s.BooleanField(
        allow_null=True,
        help_text="Whether an authenticator app or a passkey is set up; null for callers who may not manage members.",
    )
    since = s.DateTimeField()
    spent_day_picousd = s.CharField(help_text="Requests of keys that the member has made, today (UTC).")
    spent_day_usd = s.CharField()
    spent_month_picousd = s.CharField()
    spent_month_usd = s.CharField()
    spent_total_picousd = s.CharField()
    spent_total_usd = s.CharField()


class RoleShape(StrictShape):
    role = s.CharField(max_length=16, help_text="owner, admin, developer, viewer or billing.")


class InviteShape(RoleShape):
    email = s.CharField(max_length=254)


class InvitationShape(s.Serializer[object]):
    id = s.CharField()
    email = s.CharField()
    role = s.CharField()
    invited_by = s.CharField(allow_null=True, help_text="The address of whoever invited; null for a key.")
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField()


class InvitationMadeShape(InvitationShape):
    url = s.CharField(help_text="The link that accepts it, shown once.")
    was_sent = s.BooleanField(help_text="Whether the mail server took a letter with the link.")


def invitation_row(invitation: Invitation) -> dict[str, Any]:
    """An invitation as `InvitationShape` describes it."""
    return {
        **plain_row(invitation, "id", "email", "role", "created_at", "expires_at"),
        "invited_by": invitation.invited_by.email if invitation.invited_by else None,
    }


def member_row(
    member: Membership, spent: Spent | None, *, holders: frozenset[str] | None = None
) -> dict[str, Any]:
    """A member as `MemberShape` describes it; `holders` have a second factor, None where the caller may not know."""
    sums = spent or NOTHING
    return {
        "id": member.user_id,
        "email": member.user.email,
        "name": member.user.name,
        "role": member.role,
        "second_factor": None if holders is None else member.user_id in holders,
        "since": member.created_at,
        **money("spent_day", sums.day_picousd),
        **money("spent_month", sums.month_picousd),
        **money("spent_total", sums.total_picousd),
    }
