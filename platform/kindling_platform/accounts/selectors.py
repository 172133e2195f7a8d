"""Reads users and organisations."""

from kindling_platform.accounts.models import Membership, Organisation, User


def membership_get_for_user(*, user: User, slug: str | None = None) -> Membership | None:
    """A user's membership, by the organisation's slug, else the oldest."""
    rows = Membership.objects.filter(user=user).select_related("organisation", "user")
    if slug is not None:
        rows = rows.filter(organisation__slug=slug)
    return rows.order_by("created_at", "id").first()


def organisation_get_for_user(*, user: User) -> tuple[Organisation, Membership] | None:
    """The organisation a user works in and their membership; None for a user without any."""
    membership = membership_get_for_user(user=user)
    return (membership.organisation, membership) if membership else None


def organisation_get(*, slug: str) -> Organisation | None:
    """An organisation by its slug."""
    return Organisation.objects.filter(slug=slug).first()


def organisation_list() -> list[Organisation]:
    """Every organisation, oldest first."""
    return list(Organisation.objects.order_by("created_at", "id"))


def member_list(*, org: Organisation) -> list[Membership]:
    """The members of an organisation."""
    rows = Membership.objects.filter(organisation=org).select_related("user")
    return list(rows.order_by("created_at", "id"))
