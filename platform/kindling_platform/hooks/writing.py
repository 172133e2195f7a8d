"""Writes events down for whoever wants to hear of them, in the transaction of what they tell of."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection, transaction

from kindling_platform.common.clock import now
from kindling_platform.common.jobs import enqueue
from kindling_platform.hooks.models import Delivery, Endpoint, Event

DELIVER_JOB = "hooks.deliver"
# Of a payment that is booked while somebody deletes an endpoint neither is undone: the deletion waits.
HOLD = "SELECT id FROM hooks_endpoint WHERE id = ANY(%s) ORDER BY id FOR KEY SHARE"


def endpoints_wanting(
    *, organisation_id: str, kind: str, happened_at: datetime | None = None
) -> list[Endpoint]:
    """The endpoints of an organisation that are on and want to hear of a kind of event, which is theirs to hear."""
    rows = Endpoint.objects.filter(organisation_id=organisation_id, enabled=True)
    rows = rows.filter(organisation__deleting_at=None)
    if happened_at is not None:
        rows = rows.filter(enabled_at__lte=happened_at)
    return [row for row in rows.order_by("id") if not row.events or kind in row.events]


@transaction.atomic
def event_write(
    *,
    organisation_id: str,
    kind: str,
    data: dict[str, Any],
    endpoints: Sequence[Endpoint],
    key: str | None = None,
) -> Event | None:
    """Write an event with a delivery to each of some endpoints; None for one whose key was written before."""
    if key is None:
        event = Event.objects.create(organisation_id=organisation_id, type=kind, data=data)
    else:
        event, is_new = Event.objects.get_or_create(
            organisation_id=organisation_id, key=key, defaults={"type": kind, "data": data}
        )
        if not is_new:
            return None
    deliveries_add(event=event, endpoints=endpoints)
    return event


def deliveries_add(
    *, event: Event, endpoints: Sequence[Endpoint], asked_at: datetime | None = None
) -> list[Delivery]:
    """Have an event sent, now, to those of some endpoints that are still there; inside a transaction."""
    rows = [
        Delivery(
            organisation_id=event.organisation_id,
            endpoint=endpoint,
            event=event,
            due_at=now(),
            asked_at=asked_at,
        )
        for endpoint in _held(endpoints)
    ]
    if rows:
        Delivery.objects.bulk_create(rows)
        enqueue(DELIVER_JOB)
    return rows


def _held(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Those that are still there, and stay until the transaction ends."""
    if not endpoints:
        return []
    with connection.cursor() as cursor:
        cursor.execute(HOLD, [[endpoint.id for endpoint in endpoints]])
        there = {id_ for (id_,) in cursor.fetchall()}
    return [endpoint for endpoint in endpoints if endpoint.id in there]


def body_of(event: Event) -> bytes:
    """What is sent of an event: the same bytes at every attempt, as the signature covers them."""
    moment = event.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = {"id": event.id, "type": event.type, "timestamp": moment, "data": event.data}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
