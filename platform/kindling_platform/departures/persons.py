"""Deletes the account of a person: they leave every organisation, and those in which they are alone go with them.

The row of the user stays without a name wherever books and the audit log refer to it; the address is free again.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q

from kindling_platform.accounts.models import DELETED_DOMAIN, Membership, Organisation, Seeing, User
from kindling_platform.accounts.sessions import sessions_end
from kindling_platform.accounts.team import OWNER
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.conditions import Standing, standing_check, standing_get
from kindling_platform.departures.organisations import organisation_delete
from kindling_platform.deployments.models import DeploymentRevision
from kindling_platform.keys.activity import GONE
from kindling_platform.keys.leaving import key_list_live_of, member_end

# Nobody can guess the address of a deleted user beforehand, and take it.
MARK_BYTES = 8
# So long the bounds on starting credit look at where somebody came from.
ORIGIN_KEPT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Place:
    """What becomes of an organisation when one of its members deletes their account.

    `standing` is that of an organisation which is deleted with them, None where it goes on; `refusal` says why they
    cannot leave it.
    """

    org: Organisation
    role: str
    others: int
    live_keys: int
    standing: Standing | None = None
    refusal: KindlingError | None = None

    @property
    def goes_too(self) -> bool:
        return self.standing is not None

    @property
    def obstacles(self) -> tuple[KindlingError, ...]:
        """Everything that speaks against leaving it."""
        own = (self.refusal,) if self.refusal else ()
        return own + (self.standing.obstacles if self.standing else ())


def place_list(*, user: User) -> list[Place]:
    """Every organisation of a user with what would become of it, oldest membership first."""
    rows = Membership.objects.filter(user=user).select_related("organisation", "user")
    return [_place(member) for member in rows.order_by("created_at", "id")]


@transaction.atomic
def user_delete(
    *, user: User, typed: str, keep_keys: bool, actor: Actor, give_up_cents: Mapping[str, int] | None = None
) -> None:
    """Delete an account for good; `typed` is its address, as its owner has typed it. Again changes nothing.

    Keys that they made are kept or revoked where an organisation goes on. `give_up_cents` says by organisation how much
    money is given up where they are alone.

    Raises:
        KindlingError: `confirmation_wrong`, `last_owner`, `last_operator`, and what `organisation_delete` raises.
    """
    wanted = Membership.objects.filter(user=user).values("organisation")
    # In one order, so that two owners who go at the same moment do it one after the other.
    list(Organisation.objects.select_for_update(no_key=True).filter(id__in=wanted).order_by("id"))
    row = User.objects.select_for_update(no_key=True).get(id=user.id)
    if typed.strip().lower() != row.email.lower():
        text = f"Type {row.email} to confirm that you mean this account."
        raise KindlingError("confirmation_wrong", text, param="confirm")
    if not row.is_active:
        return
    places = place_list(user=row)
    for place in places:
        if place.refusal:
            raise place.refusal
        if place.standing:
            standing_check(place.standing, give_up_cents=(give_up_cents or {}).get(place.org.id, 0))
    for place in places:
        _leave(row, place, actor, keep_keys=keep_keys)
    _forget(row)
    audit_record(
        actor=actor,
        action="user.deleted",
        target=row.id,
        before={"state": "active"},
        after={"state": "deleted"},
    )
    transaction.on_commit(lambda: sessions_end(user_id=row.id), robust=True)


def origins_forget() -> int:
    """Forget where deleted users came from, once it cannot tell anything any more; gives how many that were."""
    gone = User.objects.filter(is_active=False, email__endswith=f"@{DELETED_DOMAIN}").exclude(signup_ip=None)
    return gone.filter(created_at__lt=now() - ORIGIN_KEPT).update(signup_ip=None)


def _place(member: Membership) -> Place:
    org = member.organisation
    others = Membership.objects.filter(organisation=org).exclude(id=member.id)
    refusal = None
    if member.role == OWNER and not others.filter(role=OWNER).exists():
        if org.is_operator:
            text = "Yours is the last account that owns the operator's organisation. Make somebody else an owner first."
            refusal = KindlingError("last_operator", text, 409)
        elif others.exists():
            text = f"You are the only owner of {org.name}, which has other members. Make one of them an owner first."
            refusal = KindlingError("last_owner", text, 409)
    count = others.count()
    return Place(
        org=org,
        role=member.role,
        others=count,
        live_keys=key_list_live_of(org=org, user_id=member.user_id).count(),
        standing=None if count or refusal else standing_get(org=org),
        refusal=refusal,
    )


def _leave(user: User, place: Place, actor: Actor, *, keep_keys: bool) -> None:
    if place.standing:
        organisation_delete(
            org=place.org,
            typed=place.org.slug,
            actor=actor,
            give_up_cents=place.standing.paid_left_cents,
            leaving_user_id=user.id,
        )
        return
    member = Membership.objects.select_related("user", "organisation").get(user=user, organisation=place.org)
    member_end(org=place.org, member=member, actor=actor, keep_keys=keep_keys, stays=False)


def _forget(user: User) -> None:
    """Take everything from the row by which somebody could be told, or could sign in."""
    EmailAddress.objects.filter(user=user).delete()
    Authenticator.objects.filter(user=user).delete()
    SocialAccount.objects.filter(user=user).delete()
    listed = UserSession.objects.filter(user=user)
    Session.objects.filter(session_key__in=list(listed.values_list("session_key", flat=True))).delete()
    listed.delete()
    Seeing.objects.filter(Q(user=user) | Q(operator=user)).delete()
    DeploymentRevision.objects.filter(actor_id=user.id).update(actor_label=GONE)
    user.groups.clear()
    user.user_permissions.clear()
    user.email, user.name, user.last_login = (
        f"{user.id}.{secrets.token_hex(MARK_BYTES)}@{DELETED_DOMAIN}",
        "",
        None,
    )
    user.is_active = user.is_staff = user.is_superuser = False
    if user.created_at < now() - ORIGIN_KEPT:
        user.signup_ip = None
    user.set_unusable_password()
    user.save()
