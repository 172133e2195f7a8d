"""The operator stops an organisation's requests and changes, with a reason, and lets them go on; it may always look.

Gateways look a key up again within a second, so that is how long requests go on; streams end at their next grant.
"""

from django.db import transaction

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found

LONGEST = 300


@transaction.atomic
def organisation_suspend(*, org: Organisation, reason: str, actor: Actor) -> Organisation:
    """Stop an organisation's requests and changes; where they are stopped already, nothing changes.

    Raises:
        KindlingError: `not_found`, `reason_missing`, `operator_organisation`.
    """
    why = _reason(reason)
    row = _locked(org)
    if row.is_operator:
        text = "The operator's own organisation cannot be suspended: nobody could lift it again."
        raise KindlingError("operator_organisation", text, 409)
    if row.suspended_at is not None:
        return row
    row.suspended_at = now()
    row.save(update_fields=["suspended_at"])
    _record(row, "organisation.suspended", why, actor, before="active", after="suspended")
    return row


@transaction.atomic
def organisation_resume(*, org: Organisation, reason: str, actor: Actor) -> Organisation:
    """Lift the operator's suspension; one for an unpaid invoice stays until that is paid.

    Raises:
        KindlingError: `not_found`, `reason_missing`, `organisation_deleted`.
    """
    why = _reason(reason)
    row = _locked(org)
    if row.deleting_at is not None:
        text = "This organisation was deleted by its owner. Nothing of it goes on."
        raise KindlingError("organisation_deleted", text, 409)
    if row.suspended_at is None:
        return row
    row.suspended_at = None
    row.save(update_fields=["suspended_at"])
    _record(row, "organisation.resumed", why, actor, before="suspended", after="active")
    return row


def _reason(text: str) -> str:
    if not text.strip():
        raise KindlingError("reason_missing", "Say why: the audit log keeps it.", param="reason")
    return text.strip()[:LONGEST]


def _locked(org: Organisation) -> Organisation:
    found = Organisation.objects.select_for_update().filter(id=org.id).first()
    if found is None:
        raise not_found("organisation")
    return found


def _record(org: Organisation, action: str, reason: str, actor: Actor, *, before: str, after: str) -> None:
    audit_record(
        actor=actor, action=action, target=org.id, organisation_id=org.id, data={"reason": reason},
        before={"state": before}, after={"state": after},
    )  # fmt: skip
