"""Ends what is not sent any more: of endpoints that are switched off, of organisations that go, and what is old."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.db import transaction

from kindling_platform.accounts.member_letters import webhook_off_note
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.common.purging import purged
from kindling_platform.common.tenancy import HasId
from kindling_platform.hooks.models import REASON_CHARS, Delivery, Endpoint, Event

KEPT = timedelta(days=30)
STEP_ROWS = 1000
NOT_SENT = "Not sent: the webhook was switched off."


def endpoint_off(endpoint: Endpoint, *, reason: str = "") -> None:
    """Switch a locked endpoint off, and give up what waits for it. Whoever calls it leaves the audit entry."""
    endpoint.enabled, endpoint.off_reason = False, reason[:REASON_CHARS]
    endpoint.save(update_fields=["enabled", "off_reason"])
    waiting = Delivery.objects.filter(endpoint=endpoint, state=Delivery.State.WAITING)
    waiting.update(state=Delivery.State.FAILED, error=NOT_SENT)


@transaction.atomic
def endpoint_give_up(endpoint: Endpoint, *, reason: str) -> None:
    """The same, by the platform itself: recorded, and told to owners and admins in a letter."""
    endpoint_off(endpoint, reason=reason)
    record = audit_record(
        actor=SYSTEM, action="webhook.switched_off", target=endpoint.id,
        organisation_id=endpoint.organisation_id, data={"reason": reason},
    )  # fmt: skip
    webhook_off_note(
        organisation_id=endpoint.organisation_id, key=record.id, webhook_id=endpoint.id,
        host=urlsplit(endpoint.url).hostname or "", reason=reason,
    )  # fmt: skip


def webhooks_clear(*, org: HasId) -> int:
    """Delete what an organisation that goes has, in bounded steps; gives the number of rows, nothing once none is."""
    with transaction.atomic():
        # Whatever is written for them meanwhile is waited for.
        found = len(Endpoint.objects.for_org(org).select_for_update().order_by("id"))
        if found:
            Endpoint.objects.for_org(org).delete()
    return found + purged(Event.objects.for_org(org), limit=STEP_ROWS, batches=1)


def deliveries_purge() -> int:
    """Delete a step of the events that are older than 30 days, and all that was sent of them; gives their number."""
    return purged(Event.objects.filter(created_at__lt=now() - KEPT), limit=STEP_ROWS, batches=1)
