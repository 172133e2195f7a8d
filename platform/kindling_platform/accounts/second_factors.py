"""Whether an organisation asks a second factor of each of its members, and who has one.

An authenticator app and a passkey count. Recovery codes alone do not, nor does a sign-in at an identity provider, of
which nobody here knows how it was.
"""

from collections.abc import Iterable

from allauth.mfa.models import Authenticator
from django.db import transaction

from kindling_platform.accounts.factors import APP, PASSKEY
from kindling_platform.accounts.member_letters import factor_required_note
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

# The code that whoever lacks one is refused with.
FACTOR_MISSING = "mfa_required"
REFUSAL = (
    "Your organisation asks a second factor of everybody, and you have none: add an authenticator app or a passkey in "
    "the console, under Account. Nothing was done."
)


def factor_holders(user_ids: Iterable[str]) -> frozenset[str]:
    """Which of these people have a second factor."""
    rows = Authenticator.objects.filter(user_id__in=list(user_ids), type__in=(APP, PASSKEY))
    return frozenset(rows.values_list("user_id", flat=True))


def factor_is_missing(*, org: Organisation, user: User) -> bool:
    """Whether an organisation asks for a second factor that somebody has not; asked anew at each request."""
    return org.mfa_required and not factor_holders([user.id])


def factor_check(*, org: Organisation, user: User) -> None:
    """Refuse whoever has not what their organisation asks for.

    Raises:
        KindlingError: `mfa_required`.
    """
    if factor_is_missing(org=org, user=user):
        raise KindlingError("mfa_required", REFUSAL, 403)


@transaction.atomic
def mfa_required_set(
    *, org: Organisation, required: bool, person_id: str | None, actor: Actor
) -> Organisation:
    """Ask a second factor of every member from the next request on, or no more; whoever lacks one gets a letter.

    Whoever switches it on, or has made the key that does, has one: nobody shuts themselves out, or finds out on their
    own organisation how it is.

    Raises:
        KindlingError: `mfa_missing`.
    """
    row = Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if row.mfa_required == required:
        return row
    if required and not (person_id and factor_holders([person_id])):
        text = (
            "You have no second factor yourself. Add an authenticator app or a passkey under Account first, then ask "
            "it of the others."
        )
        raise KindlingError("mfa_missing", text, 409)
    row.mfa_required = required
    row.save(update_fields=["mfa_required"])
    if required:
        factor_required_note(org=row, moment=now())
    audit_record(
        actor=actor, action="organisation.mfa_required_set", target=row.id, organisation_id=row.id,
        before={"mfa_required": not required}, after={"mfa_required": required},
    )  # fmt: skip
    return row
