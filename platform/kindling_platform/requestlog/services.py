"""Switches the log of prompts and answers, opens what it has kept, and deletes it."""

from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.org_seal import SealBrokenError
from kindling_platform.requestlog.models import LoggedRequest, LogSetting
from kindling_platform.requestlog.seal import Said, Seal
from kindling_platform.requestlog.selectors import logged_request_get

MAX_DAYS = 90
PURGE_ROWS = 1000
PURGE_BATCHES = 20
SET_EXPIRY = (
    "UPDATE requestlog_loggedrequest SET expires_at = created_at + make_interval(days => %s)"
    " WHERE organisation_id = %s"
)


@transaction.atomic
def request_log_set(*, org: Organisation, days: int, actor: Actor) -> None:
    """Keep prompts and answers for so many days, those that are kept already included; 0 keeps none and deletes all.

    Raises:
        KindlingError: `days_invalid`.
    """
    if not 0 <= days <= MAX_DAYS:
        raise KindlingError(
            "days_invalid", f"Keep prompts and answers for 0 to {MAX_DAYS} days.", param="days"
        )
    LogSetting.objects.get_or_create(organisation_id=org.id, defaults={"days": 0})
    setting = LogSetting.objects.for_org(org).select_for_update().get()
    before, setting.days = setting.days, days
    setting.save(update_fields=["days"])
    deleted = 0
    if days:
        with connection.cursor() as cursor:
            cursor.execute(SET_EXPIRY, [days, org.id])
    else:
        deleted = LoggedRequest.objects.for_org(org).delete()[0]
    audit_record(
        actor=actor,
        action="request_log.set",
        target=org.id,
        organisation_id=org.id,
        data={"deleted": deleted},
        before={"days": before},
        after={"days": days},
    )


@transaction.atomic
def logged_request_open(*, org: Organisation, request_id: UUID, actor: Actor) -> Said:
    """What a kept request and its answer said; who has looked is audited.

    Raises:
        KindlingError: `not_found`, also for requests of others; `seal_broken` after a change of the secret.
    """
    entry = logged_request_get(org=org, request_id=request_id)
    try:
        said = Seal(settings.SECRET_KEY).open(
            bytes(entry.sealed), org_id=entry.organisation_id, request_id=entry.request_id
        )
    except SealBrokenError as error:
        message = "This request was sealed with another secret of the installation and cannot be opened."
        raise KindlingError("seal_broken", message, 409) from error
    audit_record(actor=actor, action="request_log.read", target=str(request_id), organisation_id=org.id)
    return said


def request_log_purge(*, limit: int = PURGE_ROWS, batches: int = PURGE_BATCHES) -> int:
    """Delete kept requests whose time is over, in so many batches at most; gives their number."""
    total = 0
    for _ in range(batches):
        ids = LoggedRequest.objects.filter(expires_at__lte=now()).values_list("request_id", flat=True)
        deleted = LoggedRequest.objects.filter(request_id__in=list(ids[:limit])).delete()[0]
        total += deleted
        if deleted < limit:
            break
    return total
