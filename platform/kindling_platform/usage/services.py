"""Books usage: events, their cost, the roll-ups and the cursor, all in one database transaction."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_OID, UUID, uuid5

import msgspec
import structlog
from django.db import connection, transaction

from kindling_billing.rating import Line
from kindling_billing.selectors import Balance, spendable_map
from kindling_billing.services import UsageCharge, usage_post
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.accounts.models import Organisation
from kindling_platform.common.crash_points import crash_point
from kindling_platform.keys.services import key_touch
from kindling_platform.usage.context import context_parse
from kindling_platform.usage.models import ParkedUsage, UsageCursor, UsageEvent
from kindling_platform.usage.rating import records_rate
from kindling_platform.usage.retention import retired_list
from kindling_platform.usage.rollups import part_of, rollups_move
from kindling_platform.usage.witnesses import records_hear, records_judge, usage_lock

log = structlog.get_logger(__name__)
MAX_RECORDS = 500


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What one call booked: new events, their cost in pico-dollars, wallets and request ids to tell Valkey of."""

    inserted: int
    parked: int
    cost_picousd: int
    wallets: dict[str, Balance]
    request_ids: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Booked:
    """Events that are in the books now, those among them that are new, and records that could not be rated and why."""

    known: list[UsageEvent]
    new: list[UsageEvent]
    parked: list[tuple[UsageRecord, str]]


def usage_ingest(
    *, source: str, log_id: str, after: int, records: Sequence[UsageRecord], next_offset: int
) -> IngestResult:
    """Book up to 500 records of a replica's log, read from `after` to `next_offset`.

    Exactly once: the cursor's row is locked, known request ids are left alone, all is one transaction. A cursor that
    another worker has moved meanwhile is not moved back.

    Raises:
        ValueError: more records than one call may book.
    """
    if len(records) > MAX_RECORDS:
        raise ValueError(f"at most {MAX_RECORDS} records at once")
    with transaction.atomic():
        cursor = _cursor_lock(source, log_id)
        if cursor.offset != after:
            return IngestResult(0, 0, 0, {}, {})
        usage_lock()
        records = records_judge(records)
        booked = records_book(records, source=source)
        records_park(source, booked.parked)
        records_hear(records)
        cursor.offset = next_offset
        cursor.save(update_fields=["offset", "updated_at"])
        by_org: dict[str, list[str]] = defaultdict(list)
        for event in booked.known:
            by_org[event.organisation_id].append(str(event.request_id))
        wallets = spendable_map(owner_ids=set(by_org))
        crash_point("ingest.written")
    crash_point("ingest.committed")
    for record, reason in booked.parked:
        log.error("usage.parked", request_id=record.request_id, source=source, reason=reason)
    return IngestResult(
        inserted=len(booked.new),
        parked=len(booked.parked),
        cost_picousd=sum(event.cost_picousd for event in booked.new),
        wallets=wallets,
        request_ids=dict(by_org),
    )


def records_book(records: Sequence[UsageRecord], *, source: str, price_by_time: bool = False) -> Booked:
    """Rate records and book those that are new: event, charge and roll-ups; call it inside a transaction."""
    rated = records_rate(records, source=source, known_orgs=_known_orgs(records), price_by_time=price_by_time)
    inserted = _insert(rated.events)
    usage_post([charge_of(event, rated.lines[event.request_id]) for event in inserted])
    rollups_move(after=map(part_of, inserted))
    _touch_keys(inserted)
    return Booked(rated.events, inserted, rated.parked)


def cursor_get(*, source: str) -> tuple[str, int]:
    """The id of the log that was read last from this source, and how far."""
    cursor = UsageCursor.objects.filter(source=source).first()
    return (cursor.log_id, cursor.offset) if cursor else ("", 0)


def _cursor_lock(source: str, log_id: str) -> UsageCursor:
    UsageCursor.objects.bulk_create([UsageCursor(source=source, log_id=log_id)], ignore_conflicts=True)
    cursor = UsageCursor.objects.select_for_update().get(source=source)
    if cursor.log_id != log_id:  # the log was made anew: begin at its beginning
        cursor.log_id, cursor.offset = log_id, 0
        cursor.save(update_fields=["log_id", "offset", "updated_at"])
    return cursor


def _known_orgs(records: Sequence[UsageRecord]) -> set[str]:
    wanted = {context.org for record in records if (context := context_parse(record.context))}
    return set(Organisation.objects.filter(id__in=wanted).values_list("id", flat=True))


def _insert(events: Sequence[UsageEvent]) -> list[UsageEvent]:
    """Insert the events whose request id is new, and say which they were."""
    unique = {event.request_id: event for event in events}
    if not unique:
        return []
    # A lock per request id would be finer; booking is short, so one writer at a time is simpler.
    usage_lock()
    with connection.cursor() as cursor:
        cursor.execute("SELECT request_id FROM usage_usageevent WHERE request_id = ANY(%s)", [list(unique)])
        known: set[UUID] = {found for (found,) in cursor.fetchall()}
    known |= retired_list([event for event in events if event.request_id not in known])
    new = [event for request_id, event in unique.items() if request_id not in known]
    UsageEvent.objects.bulk_create(new)
    return new


def charge_of(event: UsageEvent, lines: tuple[Line, ...]) -> UsageCharge:
    """What an event costs its organisation, as billing takes it."""
    return UsageCharge(
        owner_id=event.organisation_id,
        request_id=str(event.request_id),
        cost_picousd=event.cost_picousd,
        memo=_memo(event),
        sku=event.model_id,
        label=event.model_name,
        used_at=event.finished_at,
        lines=lines,
    )


def _memo(event: UsageEvent) -> str:
    return f"Usage of {event.model_name}" if event.billable else f"Failed on our side: {event.model_name}"


def records_park(source: str, parked: Sequence[tuple[UsageRecord, str]]) -> None:
    """Keep records that cannot be billed, each once, for the operator to see."""
    rows = []
    for record, reason in parked:
        try:
            request_id = UUID(record.request_id)
        except ValueError:
            request_id = uuid5(NAMESPACE_OID, record.request_id)
        # Postgres stores no NUL; the record is kept for people to read.
        readable = json.loads(msgspec.json.encode(record).replace(b"\\u0000", b"\\ufffd"))
        clean = reason.replace("\0", "\ufffd")[:200]
        rows.append(ParkedUsage(request_id=request_id, source=source, reason=clean, record=readable))
    ParkedUsage.objects.bulk_create(rows, ignore_conflicts=True)


def _touch_keys(events: Iterable[UsageEvent]) -> None:
    last: dict[str, datetime] = {}
    for event in events:
        last[event.key_id] = max(last.get(event.key_id, event.finished_at), event.finished_at)
    key_touch(used_at=last)
