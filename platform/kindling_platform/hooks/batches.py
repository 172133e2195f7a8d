"""Events of batches. Gateways end those by SQL and know nothing of webhooks, so ended ones are found here."""

from datetime import timedelta

from django.db.models import Exists, OuterRef, Value
from django.db.models.functions import Concat

from kindling_platform.batches.models import Batch
from kindling_platform.common.clock import now
from kindling_platform.hooks.kinds import BATCH_ENDS
from kindling_platform.hooks.models import Endpoint, Event
from kindling_platform.hooks.writing import endpoints_wanting, event_write

# Workers that were away for longer than this tell of none that ended before.
LOOKED_BACK = timedelta(days=3)
AT_ONCE = 200
KEY = "batch:"


def batch_events_write(*, limit: int = AT_ONCE) -> int:
    """Write an event for each batch that has ended and has none; gives how many were written."""
    listening = Endpoint.objects.filter(enabled=True, organisation__deleting_at=None)
    listening = listening.filter(
        organisation_id=OuterRef("organisation_id"), enabled_at__lte=OuterRef("ended_at")
    )
    key = Concat(Value(KEY), OuterRef("id"))
    told = Event.objects.filter(organisation_id=OuterRef("organisation_id"), key=key)
    rows = Batch.objects.filter(
        Exists(listening), ~Exists(told), ended_at__gt=now() - LOOKED_BACK, status__in=BATCH_ENDS
    )
    return sum(_write(batch) for batch in rows.order_by("ended_at")[:limit])


def _write(batch: Batch) -> bool:
    kind = BATCH_ENDS[batch.status]
    counts = {name: getattr(batch, name) for name in ("total", "completed", "failed")}
    names = ("id", "status", "endpoint", "output_file_id", "error_file_id")
    data = {name: getattr(batch, name) for name in names} | {"request_counts": counts}
    # Written for nobody, too, who wants other kinds: it would be looked at again and again.
    endpoints = endpoints_wanting(
        organisation_id=batch.organisation_id, kind=kind, happened_at=batch.ended_at
    )
    made = event_write(
        organisation_id=batch.organisation_id, kind=kind, data=data, endpoints=endpoints, key=KEY + batch.id
    )
    return made is not None
