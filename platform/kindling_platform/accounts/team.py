"""Roles of members. An organisation always has an owner, and only owners make others owners or unmake them.

In the operator's organisation the same goes for admins, since they run the installation as owners do.
"""

from django.db import transaction

from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.roles import OPERATOR, ROLE_ACTIONS, can
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.errors import KindlingError, not_found

OWNER = "owner"


def member_get(*, org: Organisation, user_id: str) -> Membership:
    """One member.

    Raises:
        KindlingError: `not_found`.
    """
    rows = Membership.objects.filter(organisation=org, user_id=user_id)
    found = rows.select_related("user", "organisation").first()
    if found is None:
        raise not_found("member")
    return found


@transaction.atomic
def member_role_set(
    *, org: Organisation, user_id: str, role: str, actor: Actor, may_own: bool = False
) -> Membership:
    """Change what a member may do, from the next request on. `may_own` says that whoever does it is an owner.

    Raises:
        KindlingError: `not_found`, `role_invalid`, `role_forbidden`, `last_owner`.
    """
    member = member_lock(org=org, user_id=user_id)
    if member.role == role:
        return member
    role_check(role, org=org, may_own=may_own)
    owner_check(member, may_own=may_own)
    before, member.role = member.role, role
    member.save(update_fields=["role"])
    powers_end(member)
    audit_record(
        actor=actor, action="member.role_changed", target=user_id, organisation_id=org.id,
        before={"role": before}, after={"role": role},
    )  # fmt: skip
    return member


def member_lock(*, org: Organisation, user_id: str) -> Membership:
    """A member, while nobody else changes who is one and as what; for use inside a transaction.

    Raises:
        KindlingError: `not_found`.
    """
    Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    return member_get(org=org, user_id=user_id)


def role_check(role: str, *, org: Organisation, may_own: bool) -> None:
    """Refuse a role that there is not, and one that is not theirs to give.

    Raises:
        KindlingError: `role_invalid`, `role_forbidden`.
    """
    if role not in ROLE_ACTIONS:
        raise KindlingError("role_invalid", f"A role is one of {', '.join(ROLE_ACTIONS)}.", param="role")
    if role in _guarded(org) and not may_own:
        raise KindlingError("role_forbidden", f"Only an owner gives the role {role} here.", 403, param="role")


def owner_check(member: Membership, *, may_own: bool) -> None:
    """Refuse to take an owner's place by somebody who is none, or when no other owner would be left.

    Raises:
        KindlingError: `role_forbidden`, `last_owner`.
    """
    if member.role in _guarded(member.organisation) and not may_own:
        text = f"Only an owner changes or removes the role {member.role} here."
        raise KindlingError("role_forbidden", text, 403)
    others = Membership.objects.filter(organisation=member.organisation, role=OWNER).exclude(id=member.id)
    if member.role == OWNER and not others.exists():
        text = f"{member.user.email} is the only owner. Make somebody else an owner first."
        raise KindlingError("last_owner", text, 409)


def powers_end(member: Membership) -> None:
    """Who runs the installation no more is let into its administration no more."""
    user = member.user
    if member.organisation.is_operator and not can(member, OPERATOR) and (user.is_staff or user.is_superuser):
        user.is_staff = user.is_superuser = False
        user.save(update_fields=["is_staff", "is_superuser"])


def roles_given(*, org: Organisation, may_own: bool) -> list[str]:
    """The roles that somebody may give here."""
    return [role for role in ROLE_ACTIONS if may_own or role not in _guarded(org)]


def _guarded(org: Organisation) -> frozenset[str]:
    return frozenset({OWNER, "admin"} if org.is_operator else {OWNER})
