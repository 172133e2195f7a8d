"""Books what gateways have shipped: final counts at once, the rest from the engine's log, failures of ours for nothing.

Everything about a request happens once however often it is told, and in either order of its two witnesses.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import msgspec
import structlog
from django.conf import settings
from django.db import DataError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from kindling_billing.selectors import Balance, price_map, price_of, spendable_map
from kindling_billing.usage import UsageCharge, usage_waive
from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.common.clock import now
from kindling_platform.common.crash_points import crash_point
from kindling_platform.common.purging import purged
from kindling_platform.usage.models import ParkedUsage, SpooledUsage, UsageEvent
from kindling_platform.usage.rating import event_lines
from kindling_platform.usage.rollups import part_of, rollups_move
from kindling_platform.usage.services import charge_of, records_book, records_park
from kindling_platform.usage.witnesses import FAILED, drift_note, usage_lock

log = structlog.get_logger(__name__)
BATCH = 500
# An engine that lives logs within a second; after this its log is not waited for any more.
LOG_WAIT = timedelta(seconds=60)
PURGE_ROWS = 5000
PURGE_BATCHES = 20
# What a record that cannot be read raises, and a value that does not fit its column.
UNBOOKABLE = (msgspec.MsgspecError, DataError, ValueError, OverflowError)


@dataclass(slots=True)
class SpoolBooked:
    """What a run did: rows settled, events booked, charges given back, wallets and request ids to tell Valkey of."""

    settled: int = 0
    inserted: int = 0
    waived: int = 0
    wallets: dict[str, Balance] = field(default_factory=dict)
    request_ids: dict[str, list[str]] = field(default_factory=dict)

    def add(self, other: "SpoolBooked") -> None:
        """Count what was done after this as well."""
        self.settled += other.settled
        self.inserted += other.inserted
        self.waived += other.waived
        self.wallets |= other.wallets
        for owner_id, ids in other.request_ids.items():
            self.request_ids.setdefault(owner_id, []).extend(ids)


def spool_book(*, limit: int = BATCH) -> SpoolBooked:
    """Book up to `limit` shipped rows whose time has come in one transaction, or each in its own if that is refused."""
    try:
        return _book(_due(), limit)
    except UNBOOKABLE:
        return _book_singly(limit)


def spool_purge() -> int:
    """Delete booked rows that nobody will compare any more; gives their number."""
    days = settings.KINDLING_ENV.keep_spool_days
    if not days:
        return 0
    old = SpooledUsage.objects.filter(shipped_at__lt=now() - timedelta(days=days)).exclude(booked_at=None)
    return purged(old, limit=PURGE_ROWS, batches=PURGE_BATCHES)


def _book(due: "QuerySet[SpooledUsage]", limit: int) -> SpoolBooked:
    with transaction.atomic():
        usage_lock()
        rows = list(due.select_for_update()[:limit])
        if not rows:
            return SpoolBooked()
        done = _settle(rows)
        crash_point("book.written")
    crash_point("book.committed")
    return done


def _book_singly(limit: int) -> SpoolBooked:
    """Set aside the rows that the books refuse, so that they hold up no other."""
    done = SpoolBooked()
    for request_id in list(_due().values_list("request_id", flat=True)[:limit]):
        one = _due().filter(request_id=request_id)
        try:
            done.add(_book(one, 1))
        except UNBOOKABLE as error:
            done.settled += _park(one, f"The books refuse it: {error}")
    return done


@transaction.atomic
def _park(due: "QuerySet[SpooledUsage]", reason: str) -> int:
    usage_lock()
    rows = list(due.select_for_update())
    for row in rows:
        try:
            records_park("gateway", [(_record(row), reason)])
        except msgspec.MsgspecError:
            kept = ParkedUsage(
                request_id=row.request_id, source="gateway", reason=reason[:200], record={"text": row.record}
            )
            ParkedUsage.objects.bulk_create([kept], ignore_conflicts=True)
        row.booked_at = now()
        row.save(update_fields=["booked_at"])
        log.error("usage.parked", request_id=str(row.request_id), source="gateway", reason=reason)
    return len(rows)


def _due() -> "QuerySet[SpooledUsage]":
    """The oldest rows that can be settled: final ones, those whose engine has spoken, those waited for in vain."""
    final = Q(verdict__in=("closed", "void"))
    heard = ~Q(logged_at=None) | Exists(UsageEvent.objects.filter(request_id=OuterRef("request_id")))
    late = Q(shipped_at__lt=now() - LOG_WAIT)
    return SpooledUsage.objects.filter(final | heard | late, booked_at=None).order_by("shipped_at")


def _settle(rows: Sequence[SpooledUsage]) -> SpoolBooked:
    records = {row.request_id: _record(row) for row in rows}
    events = UsageEvent.objects.select_for_update().filter(request_id__in=list(records))
    before = {event.request_id: event for event in events.order_by("request_id")}
    done = SpoolBooked(settled=len(rows))
    booked = records_book([records[one] for one in records if one not in before], source="gateway")
    records_park("gateway", booked.parked)
    done.inserted = len(booked.new)
    voided = [before[row.request_id] for row in rows if row.verdict == "void" and row.request_id in before]
    done.waived = _waive([event for event in voided if event.billable])
    # What was booked before came from the engine's log, so that witness was heard.
    closed = {
        row.request_id: records[row.request_id]
        for row in rows
        if row.verdict == "closed" and row.request_id in before and before[row.request_id].billable
    }
    drift_note({one: before[one] for one in closed}, closed)
    moment = now()
    for row in rows:
        row.booked_at = moment
        if row.request_id in before and row.logged_at is None:
            row.logged_at = moment
    SpooledUsage.objects.bulk_update(rows, ["booked_at", "logged_at"])
    _tell(done, [*before.values(), *booked.new])
    return done


def _record(row: SpooledUsage) -> UsageRecord:
    record = msgspec.json.decode(row.record, type=UsageRecord)
    return msgspec.structs.replace(record, finish=FAILED) if row.verdict == "void" else record


def _waive(events: Sequence[UsageEvent]) -> int:
    """Give back what requests cost that turned out to have failed on our side."""
    prices = price_map(price_ids={event.price_version_id for event in events})
    charges: list[UsageCharge] = []
    for event in events:
        price = prices[event.price_version_id]
        charges.append(charge_of(event, event_lines(event, price_of(price))))
        log.info("usage.waived", request_id=str(event.request_id), cost_picousd=event.cost_picousd)
    waived = usage_waive(charges)
    before = [part_of(event) for event in events]
    for event in events:
        event.billable, event.cost_picousd, event.finish = False, 0, FAILED
    rollups_move(before=before, after=map(part_of, events))
    UsageEvent.objects.bulk_update(events, ["billable", "cost_picousd", "finish"])
    return waived


def _tell(done: SpoolBooked, events: Sequence[UsageEvent]) -> None:
    by_org: dict[str, list[UUID]] = defaultdict(list)
    for event in events:
        by_org[event.organisation_id].append(event.request_id)
    done.request_ids = {org: [str(one) for one in ids] for org, ids in by_org.items()}
    done.wallets = spendable_map(owner_ids=set(by_org))
