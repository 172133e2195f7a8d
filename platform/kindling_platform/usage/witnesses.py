"""Two witnesses of every bill: the gateway's spool and the engine's log. Where they differ, it is kept and counted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import msgspec
from django.db import connection
from django.db.models import QuerySet

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common.clock import now
from kindling_platform.usage.models import SpooledUsage, UsageEvent, WitnessDrift

COUNTS = "counts"
MISSING_AFTER = timedelta(minutes=10)
LOOKS_BACK = timedelta(hours=24)
FAILED = "error"
ONE_WITNESS = """
    SELECT count(*) FILTER (WHERE spooled.request_id IS NULL), count(*) FILTER (WHERE spooled.logged_at IS NULL
        AND spooled.verdict = 'closed')
    FROM usage_usageevent event LEFT JOIN usage_spooledusage spooled ON spooled.request_id = event.request_id
    WHERE event.finished_at BETWEEN %s AND %s
"""


@dataclass(frozen=True, slots=True)
class Witnesses:
    """How the witnesses of the last day agree, but for ten minutes in which one may still be on its way."""

    differing: int
    only_engine: int
    only_gateway: int
    unbooked: int


def usage_lock() -> None:
    """One writer of usage at a time, until the transaction ends; then both witnesses see what the other has booked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('kindling.usage'))")


def records_judge(records: Sequence[UsageRecord]) -> list[UsageRecord]:
    """The engine's records, those of requests that failed on our side marked so, whatever the engine had made."""
    voided = set(
        SpooledUsage.objects.filter(request_id__in=_ids(records), verdict="void").values_list(
            "request_id", flat=True
        )
    )
    return [
        msgspec.structs.replace(record, finish=FAILED) if _id(record) in voided else record
        for record in records
    ]


def records_hear(records: Sequence[UsageRecord]) -> int:
    """Note that the engine's log has spoken, and where it says something else than what is booked; gives how often."""
    by_id = {request_id: record for record in records if (request_id := _id(record)) is not None}
    SpooledUsage.objects.filter(request_id__in=list(by_id), logged_at=None).update(logged_at=now())
    events = UsageEvent.objects.filter(request_id__in=list(by_id), billable=True)
    return drift_note({event.request_id: event for event in events}, by_id)


def drift_note(events: Mapping[UUID, UsageEvent], records: Mapping[UUID, UsageRecord]) -> int:
    """Keep the requests whose record counts differently than their event."""
    found = [
        WitnessDrift(
            request_id=request_id,
            organisation_id=event.organisation_id,
            kind=COUNTS,
            booked=dict(zip(NAMES, _counts(event), strict=True)),
            logged=dict(zip(NAMES, _counts(records[request_id]), strict=True)),
            found_at=now(),
        )
        for request_id, event in events.items()
        if request_id in records and _counts(event) != _counts(records[request_id])
    ]
    WitnessDrift.objects.bulk_create(found, ignore_conflicts=True)
    return len(found)


def drift_list() -> QuerySet[WitnessDrift]:
    """Requests whose witnesses count differently, newest first; for the operator."""
    return WitnessDrift.objects.order_by("-found_at", "-request_id")


def witnesses_compare() -> Witnesses:
    """What the operator and the metrics are told."""
    end = now() - MISSING_AFTER
    start = now() - LOOKS_BACK
    with connection.cursor() as cursor:
        cursor.execute(ONE_WITNESS, [start, end])
        only_engine, only_gateway = cursor.fetchone()
    return Witnesses(
        differing=WitnessDrift.objects.filter(found_at__gte=start).count(),
        only_engine=only_engine,
        only_gateway=only_gateway,
        unbooked=SpooledUsage.objects.filter(booked_at=None, shipped_at__lt=end).count(),
    )


NAMES = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")


def _counts(one: UsageEvent | UsageRecord) -> tuple[int, ...]:
    return one.prompt_tokens, one.cached_tokens, one.completion_tokens, one.reasoning_tokens


def _ids(records: Iterable[UsageRecord]) -> list[UUID]:
    return [request_id for record in records if (request_id := _id(record)) is not None]


def _id(record: UsageRecord) -> UUID | None:
    try:
        return UUID(record.request_id)
    except ValueError:
        return None
