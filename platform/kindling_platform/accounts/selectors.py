"""Reads users and organisations."""

from collections.abc import Iterable, Sequence
from typing import Any

from allauth.account.models import EmailAddress
from django.db.models import Q, QuerySet

from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.matching import best_first

# Where a session keeps the organisation that its user has chosen to work in.
CHOSEN_ORGANISATION = "organisation"


def user_list_known_by(*, email: str) -> QuerySet[User]:
    """Whose first address this is, or one that they have confirmed."""
    confirmed = EmailAddress.objects.filter(email__iexact=email, verified=True)
    return User.objects.filter(Q(email__iexact=email) | Q(id__in=confirmed.values("user")))


def membership_list_for_user(*, user: User) -> list[Membership]:
    """All memberships of a user, oldest first."""
    rows = Membership.objects.filter(user=user).select_related("organisation", "user")
    return list(rows.order_by("created_at", "id"))


def membership_chosen(memberships: Sequence[Membership], chosen: object) -> Membership:
    """The membership in the organisation of this id, else the first.

    Raises:
        KindlingError: `organisation_missing` when there is none.
    """
    found = next((one for one in memberships if one.organisation_id == chosen), None)
    if found is None and not memberships:
        raise KindlingError("organisation_missing", "You do not belong to any organisation.", 403)
    return found or memberships[0]


def organisation_get_for_user(*, user: User, chosen: object = None) -> tuple[Organisation, Membership]:
    """The organisation a user works in and their membership: the chosen one, else that of the oldest membership.

    Raises:
        KindlingError: `organisation_missing`.
    """
    membership = membership_chosen(membership_list_for_user(user=user), chosen)
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


def organisation_named(*, ref: str) -> Organisation:
    """An organisation that is not being deleted, by its slug or its id.

    Raises:
        KindlingError: organisation_unknown.
    """
    found = Organisation.objects.filter(Q(slug=ref) | Q(id=ref), deleting_at=None).first()
    if found is None:
        text = f"There is no organisation {ref[:64]!r}."
        raise KindlingError("organisation_unknown", text, 404, param="organisation")
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


def organisation_list_named(*, query: str) -> QuerySet[Any]:
    """Organisations that are called like `query`, the best first; for the operator."""
    return best_first(organisation_list(), query, fields=("name", "slug"))


def organisation_list() -> QuerySet[Organisation]:
    """Every organisation, newest first; for the operator."""
    return Organisation.objects.order_by("-created_at", "-id")


def member_list(*, org: Organisation) -> QuerySet[Membership]:
    """The members of an organisation, oldest first."""
    return Membership.objects.filter(organisation=org).select_related("user").order_by("created_at", "id")
