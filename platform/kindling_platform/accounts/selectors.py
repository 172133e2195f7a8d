"""Reads users and organisations."""

from collections.abc import Iterable

from django.db.models import Q, QuerySet

from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.common.errors import KindlingError, not_found


def membership_get_for_user(*, user: User, slug: str | None = None) -> Membership | None:
    """A user's membership, by the organisation's slug, else the oldest."""
    rows = Membership.objects.filter(user=user).select_related("organisation", "user")
    if slug is not None:
        rows = rows.filter(organisation__slug=slug)
    return rows.order_by("created_at", "id").first()


def organisation_get_for_user(*, user: User) -> tuple[Organisation, Membership]:
    """The organisation a user works in and their membership.

    Raises:
        KindlingError: `organisation_missing`.
    """
    membership = membership_get_for_user(user=user)
    if membership is None:
        raise KindlingError("organisation_missing", "You do not belong to any organisation.", 403)
    return membership.organisation, membership


def organisation_get(*, organisation_id: str) -> Organisation:
    """An organisation by its id.

    Raises:
        KindlingError: `not_found`.
    """
    found = Organisation.objects.filter(id=organisation_id).first()
    if found is None:
        raise not_found("organisation")
    return found


def organisation_map(*, organisation_ids: Iterable[str]) -> dict[str, Organisation]:
    """Organisations by their ids."""
    return {row.id: row for row in Organisation.objects.filter(id__in=set(organisation_ids))}


def organisation_id_of(ref: str) -> str:
    """The id of an organisation that is named by slug or id; what is neither comes back as it is, and finds nothing."""
    found = Organisation.objects.filter(slug=ref).values_list("id", flat=True).first() if ref else None
    return found or ref


def organisation_find(*, query: str) -> QuerySet[Organisation]:
    """Organisations whose slug or name has `query` in it, all of them without one, newest first; for the operator."""
    rows = organisation_list()
    return rows.filter(Q(slug__icontains=query) | Q(name__icontains=query)) if query else rows


def organisation_list() -> QuerySet[Organisation]:
    """Every organisation, newest first; for the operator."""
    return Organisation.objects.order_by("-created_at", "-id")


def member_list(*, org: Organisation) -> QuerySet[Membership]:
    """The members of an organisation, oldest first."""
    return Membership.objects.filter(organisation=org).select_related("user").order_by("created_at", "id")
