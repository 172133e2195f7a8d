"""Invitations: made by owners and admins, accepted by whoever has both the link and the address it was made for."""

import hashlib
import secrets
from datetime import timedelta

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import QuerySet

from kindling_platform.accounts.actor import user_actor
from kindling_platform.accounts.models import Invitation, Membership, Organisation, User
from kindling_platform.accounts.selectors import user_list_known_by
from kindling_platform.accounts.team import role_check
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found

VALID_FOR = timedelta(days=7)
# Whoever comes with a link that is over is told so for this long; afterwards only the audit log knows of it.
KEPT_FOR = timedelta(days=30)
FORGOTTEN_AT_ONCE = 2000
MOST_OPEN = 100
# Letters go to strangers; nobody sends them by the thousand through somebody else's mail server.
MOST_A_DAY = 100
SECRET_BYTES = 32


@transaction.atomic
def invitation_create(
    *, org: Organisation, email: str, role: str, actor: Actor, may_own: bool = False
) -> tuple[Invitation, str]:
    """Invite an address, anew if it was before; gives the link's secret, which is nowhere else from here on.

    `may_own` says that whoever invites is an owner, and so may make others that.

    Raises:
        KindlingError: `email_invalid`, `role_invalid`, `role_forbidden`, `member_exists`, `invitation_limit_reached`.
    """
    email = _address(email)
    role_check(role, org=org, may_own=may_own)
    # One at a time, so that the bounds below hold; whoever only refers to the organisation does not wait.
    Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if user_list_known_by(email=email).filter(memberships__organisation=org).exists():
        raise KindlingError("member_exists", f"{email} is a member already.", 409, param="email")
    moment = now()
    Invitation.objects.filter(organisation=org, email=email, ended_at=None).update(ended_at=moment)
    _check_bounds(org)
    text = secrets.token_urlsafe(SECRET_BYTES)
    made = Invitation.objects.create(
        organisation=org,
        email=email,
        role=role,
        digest=_digest(text),
        invited_by=User.objects.filter(id=actor.user_id).first(),
        created_at=moment,
        expires_at=moment + VALID_FOR,
    )
    data = {"email": email, "role": role}
    audit_record(actor=actor, action="invitation.created", target=made.id, organisation_id=org.id, data=data)
    return made, text


@transaction.atomic
def invitation_withdraw(*, org: Organisation, invitation_id: str, actor: Actor) -> None:
    """Make a link worthless; again changes nothing.

    Raises:
        KindlingError: `not_found`.
    """
    rows = Invitation.objects.select_for_update().filter(organisation=org, id=invitation_id)
    found = rows.first()
    if found is None:
        raise not_found("invitation")
    if found.ended_at is None:
        found.ended_at = now()
        found.save(update_fields=["ended_at"])
        data = {"email": found.email}
        audit_record(
            actor=actor, action="invitation.withdrawn", target=found.id, organisation_id=org.id, data=data
        )


def invitations_end(*, org: Organisation, user_id: str) -> int:
    """End what somebody has invited others to, when they go; gives how many links that were."""
    rows = Invitation.objects.filter(organisation=org, invited_by_id=user_id, ended_at=None)
    return rows.update(ended_at=now())


def invitations_end_all(*, org: Organisation) -> int:
    """End every link of an organisation; gives how many those were."""
    return Invitation.objects.filter(organisation=org, ended_at=None).update(ended_at=now())


def invitations_forget(*, limit: int = FORGOTTEN_AT_ONCE) -> int:
    """Delete up to `limit` of those that have been over for long; gives their number."""
    rows = Invitation.objects.filter(expires_at__lt=now() - KEPT_FOR).order_by("expires_at")
    ids = list(rows.values_list("id", flat=True)[:limit])
    return int(Invitation.objects.filter(id__in=ids).delete()[0])


def invitation_list(*, org: Organisation) -> QuerySet[Invitation]:
    """Those that wait, newest first; of the last days also those that have expired."""
    rows = Invitation.objects.filter(organisation=org, ended_at=None, expires_at__gt=now() - VALID_FOR)
    return rows.select_related("invited_by").order_by("-created_at", "-id")


def invitation_find(*, text: str) -> Invitation:
    """The invitation of a link.

    Raises:
        KindlingError: `not_found` for a link that never was, `invitation_over` for one that does not hold any more.
    """
    rows = Invitation.objects.select_related("organisation", "invited_by")
    return _holding(rows.filter(digest=_digest(text)).first())


@transaction.atomic
def invitation_accept(*, text: str, user: User) -> Membership:
    """Make the user a member, as what the invitation says; who is one already keeps the role.

    Raises:
        KindlingError: what `invitation_find` raises, and `invitation_for_another` for an address that is
            neither the user's first one nor confirmed by them.
    """
    rows = Invitation.objects.select_for_update(of=("self",)).select_related("organisation")
    found = _holding(rows.filter(digest=_digest(text)).first())
    if not user_list_known_by(email=found.email).filter(id=user.id).exists():
        said = f"This invitation is for {found.email}. Sign in with that address to accept it."
        raise KindlingError("invitation_for_another", said, 403)
    found.ended_at = now()
    found.save(update_fields=["ended_at"])
    member, joined = Membership.objects.get_or_create(
        user=user, organisation=found.organisation, defaults={"role": found.role}
    )
    if joined:
        audit_record(
            actor=user_actor(user), action="member.joined", target=user.id,
            organisation_id=found.organisation_id, data={"email": user.email, "role": member.role},
        )  # fmt: skip
    return member


def _address(email: str) -> str:
    email = User.objects.normalize_email(email.strip()).lower()
    try:
        validate_email(email)
    except ValidationError as error:
        text = "Give an e-mail address, such as someone@example.com."
        raise KindlingError("email_invalid", text, param="email") from error
    return email


def _check_bounds(org: Organisation) -> None:
    rows = Invitation.objects.filter(organisation=org)
    if rows.filter(ended_at=None, expires_at__gt=now()).count() >= MOST_OPEN:
        text = f"{MOST_OPEN} invitations wait already. Withdraw some first."
        raise KindlingError("invitation_limit_reached", text, 409)
    if rows.filter(created_at__gt=now() - timedelta(days=1)).count() >= MOST_A_DAY:
        text = f"An organisation sends {MOST_A_DAY} invitations a day at most. Go on tomorrow."
        raise KindlingError("invitation_limit_reached", text, 429)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="replace")).digest()


def _holding(found: Invitation | None) -> Invitation:
    if found is None:
        raise not_found("invitation")
    is_over = found.ended_at is not None or found.expires_at <= now()
    if is_over or found.organisation.deleting_at is not None:
        text = "This invitation does not hold any more. Ask whoever invited you for a new one."
        raise KindlingError("invitation_over", text, 410)
    return found
