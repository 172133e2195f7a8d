"""One of the operator's people sees the console as a member of an organisation does: for a while, and without changes.

A session keeps the id of a row here. Whether that still holds is asked anew at each request, so it ends with the time,
with a change of either password, with the operator's role and with the membership, whatever the session says.
"""

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction

from kindling_platform.accounts.models import Membership, Organisation, Seeing, User
from kindling_platform.accounts.roles import OPERATOR, can
from kindling_platform.accounts.team import member_get
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM, Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

# Where a session keeps which one it is in.
SEEING = "seeing"
LASTS = timedelta(minutes=30)
KEPT = timedelta(days=30)
LONGEST = 300
# What members read and write themselves, which the operator sees nowhere else either; and what would run for them.
HIDDEN = frozenset({"prompts.open", "playground.use", "conversations.write"})
ENDED, EXPIRED, VOID = "ended by hand", "its time was over", "a password, a role or a membership has changed"


@dataclass(frozen=True, slots=True)
class Seen:
    """What holds for a request: the row, and the membership that is looked through."""

    row: Seeing
    membership: Membership


@transaction.atomic
def seeing_begin(*, operator: User, org: Organisation, user_id: str, reason: str, actor: Actor) -> Seeing:
    """Begin to see the console as a member; one that this person is in already ends. Owners read of it in their log.

    Raises:
        KindlingError: `not_found`, `reason_missing`, `seeing_refused`.
    """
    reason = " ".join(reason.replace("\x00", " ").split())
    if not reason:
        raise KindlingError("reason_missing", "Say why: the organisation's owners read it.", param="reason")
    member = member_get(org=org, user_id=user_id)
    _seeable_check(member)
    # Whoever begins twice at once is in the later one alone.
    User.objects.select_for_update(no_key=True).get(id=operator.id)
    for before in Seeing.objects.filter(operator=operator, ended_at=None):
        seeing_end(seeing_id=before.id, actor=actor, why=ENDED)
    row = Seeing.objects.create(
        operator=operator, user=member.user, organisation=org, reason=reason[:LONGEST],
        proof=_proof(operator, member.user), ends_at=now() + LASTS,
    )  # fmt: skip
    _record(row, "seeing.begun", actor, {"reason": row.reason, "until": row.ends_at.isoformat()})
    return row


def seeing_find(*, session: SessionBase, user_id: str | None) -> Seen | None:
    """What a session sees as somebody else; what does not hold any more is ended here, and forgotten by the session."""
    seeing_id = session.get(SEEING)
    if not seeing_id:
        return None
    rows = Seeing.objects.filter(id=seeing_id, operator_id=user_id, ended_at=None)
    row = rows.select_related("operator", "user", "organisation").first()
    seen = _seen(row) if row is not None else None
    if seen is None:
        session.pop(SEEING, None)
        if row is not None:
            seeing_end(seeing_id=row.id, actor=SYSTEM, why=EXPIRED if row.ends_at <= now() else VOID)
    return seen


@transaction.atomic
def seeing_end(*, seeing_id: str, actor: Actor, why: str = ENDED) -> bool:
    """End one; False where it has ended before, or never was."""
    row = Seeing.objects.select_for_update(of=("self",)).filter(id=seeing_id, ended_at=None).first()
    if row is None:
        return False
    row.ended_at = min(now(), row.ends_at)
    row.save(update_fields=["ended_at"])
    _record(row, "seeing.ended", actor, {"why": why})
    return True


def seeings_expire(*, limit: int = 100) -> int:
    """End those whose time is over and whose session nobody came back with; how many.

    What ended long ago is forgotten: the audit log has it.
    """
    Seeing.objects.filter(ended_at__lt=now() - KEPT).delete()
    over = Seeing.objects.filter(ended_at=None, ends_at__lte=now()).values_list("id", flat=True)[:limit]
    return sum(seeing_end(seeing_id=one, actor=SYSTEM, why=EXPIRED) for one in list(over))


def is_seeable(member: Membership) -> bool:
    """Whether the operator may see the console as this member: nobody who runs the installation, in any way."""
    org, user = member.organisation, member.user
    if org.is_operator or org.deleting_at is not None or not user.is_active:
        return False
    if user.is_staff or user.is_superuser:
        return False
    return not Membership.objects.filter(user=user, organisation__is_operator=True).exists()


def only_looking(text: str) -> KindlingError:
    """What a change is refused with meanwhile."""
    return KindlingError("only_looking", text, 403)


def _seeable_check(member: Membership) -> None:
    if not is_seeable(member):
        text = "Nobody sees the console as somebody who runs this installation, or in an organisation that was deleted."
        raise KindlingError("seeing_refused", text, 403)


def _seen(row: Seeing) -> Seen | None:
    if row.ends_at <= now() or row.proof != _proof(row.operator, row.user):
        return None
    operates = Membership.objects.filter(user=row.operator, organisation__is_operator=True)
    if not any(can(one, OPERATOR) for one in operates.select_related("organisation")):
        return None
    rows = Membership.objects.filter(user=row.user, organisation=row.organisation)
    member = rows.select_related("organisation", "user").first()
    return Seen(row, member) if member is not None and is_seeable(member) else None


def _proof(operator: User, user: User) -> str:
    both = operator.get_session_auth_hash() + user.get_session_auth_hash()
    return hashlib.sha256(both.encode()).hexdigest()


def _record(row: Seeing, action: str, actor: Actor, data: dict[str, str]) -> None:
    audit_record(
        actor=actor, action=action, target=row.user_id, organisation_id=row.organisation_id,
        data={"as": row.user.email, **data},
    )  # fmt: skip
