"""Changes how long responses and shared conversations are kept, and deletes them."""

from django.db import connection, transaction

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.purging import purged
from kindling_platform.responses.models import Retention, SharedConversation, StoredResponse

MAX_DAYS = 365
PURGE_ROWS = 1000
PURGE_BATCHES = 20
SET_EXPIRY = "UPDATE {} SET expires_at = created_at + make_interval(days => %s) WHERE organisation_id = %s"


@transaction.atomic
def retention_set(*, org: Organisation, days: int, actor: Actor) -> None:
    """Keep responses for so many days after they were made, those that are kept already included; 0 keeps none.

    It holds for shared conversations too: none is made behind a switch-off, since whoever shares locks the same row.

    Raises:
        KindlingError: `days_invalid`.
    """
    if not 0 <= days <= MAX_DAYS:
        raise KindlingError(
            "days_invalid", f"Keep responses for 0 to {MAX_DAYS} days.", param="retention_days"
        )
    Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    Retention.objects.update_or_create(organisation_id=org.id, defaults={"days": days})
    with connection.cursor() as cursor:
        for table in (StoredResponse._meta.db_table, SharedConversation._meta.db_table):
            cursor.execute(SET_EXPIRY.format(table), [days, org.id])
    audit_record(
        actor=actor, action="responses.retain", target=org.id, organisation_id=org.id, data={"days": days}
    )


@transaction.atomic
def responses_delete(*, org: Organisation, actor: Actor) -> int:
    """Delete every response of an organisation; gives their number."""
    deleted, _ = StoredResponse.objects.for_org(org).delete()
    audit_record(
        actor=actor, action="responses.delete", target=org.id, organisation_id=org.id, data={"rows": deleted}
    )
    return int(deleted)


def responses_purge(*, limit: int = PURGE_ROWS, batches: int = PURGE_BATCHES) -> int:
    """Delete responses and shared conversations whose time is over, so many batches of each; gives their number."""
    kinds = (StoredResponse, SharedConversation)
    return sum(
        purged(kind.objects.filter(expires_at__lte=now()), limit=limit, batches=batches) for kind in kinds
    )
