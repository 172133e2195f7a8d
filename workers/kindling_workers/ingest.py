"""Carries usage records from the engines' logs into the books, then tells Valkey the new balances.

The cursor moves in the transaction that books the records, so that a repeat after any kill finds what is
left and doubles nothing. A log that cannot be read does not hold up the others, and a record that cannot be
booked does not hold up the rest of its log.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import DataError, InterfaceError, OperationalError
from redis.exceptions import RedisError

from kindling_platform.usage.models import UsageCursor
from kindling_platform.usage.services import IngestResult, usage_ingest
from kindling_workers.complaints import complaints
from kindling_workers.drivers.base import UsageLog, UsagePage, UsageSource
from kindling_workers.parking import record_park
from kindling_workers.wallets import Wallets

PAGE_RECORDS = 500
# So much of one log in one run; the next tick is a second away, and other logs wait as well.
MAX_PAGES = 20
# What a value that does not fit its column raises, in Django, in Postgres or on the way there.
UNBOOKABLE = (DataError, ValueError, OverflowError)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a log was read to; the id tells a log that was made anew."""

    log_id: str = ""
    offset: int = 0


@dataclass(slots=True)
class Ingested:
    """What a run did: records read, events booked, records parked, replicas whose log failed, owners not told."""

    records: int = 0
    inserted: int = 0
    parked: int = 0
    failed: list[str] = field(default_factory=list)
    untold: set[str] = field(default_factory=set)


def logs_ingest(source: UsageSource, wallets: Wallets) -> Ingested:
    """Book what every log has beyond its cursor. Errors: those of the source's `usage_list`, of the database."""
    done = Ingested()
    cursors = {row.source: Cursor(row.log_id, row.offset) for row in UsageCursor.objects.all()}
    for log in source.usage_list():
        cursor = cursors.get(log.replica, Cursor())
        if cursor.log_id and cursor.offset == log.size_bytes:
            continue
        subject = f"usage.ingest {log.replica}"
        try:
            _LogIngest(source, wallets, log, done).run(cursor)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # whatever it is, it is this log's alone
            done.failed.append(log.replica)
            complaints.complain(subject, f"{type(error).__name__}: {error}", error=error)
        else:
            complaints.content(subject)
    return done


class _LogIngest:
    def __init__(self, source: UsageSource, wallets: Wallets, log: UsageLog, done: Ingested) -> None:
        self._source = source
        self._wallets = wallets
        self._replica = log.replica
        self._done = done

    def run(self, cursor: Cursor) -> None:
        """Book the log's records, page by page, up to a bound."""
        for page, at in self._pages(cursor, limit=PAGE_RECORDS, most=MAX_PAGES):
            try:
                self._book(page, at)
            except UNBOOKABLE:
                self._book_singly(at, until=page.next_offset)

    def _pages(self, cursor: Cursor, *, limit: int, most: int) -> Iterator[tuple[UsagePage, int]]:
        """Pages with the offset each was read from; of a log that lost its end also one that only goes back."""
        at = cursor.offset
        page = self._source.usage_read(self._replica, after=at, limit=limit)
        if cursor.log_id and page.log_id and page.log_id != cursor.log_id:
            # The file was made anew: what stood before the old offset is elsewhere now.
            at = 0
            page = self._source.usage_read(self._replica, after=at, limit=limit)
        for _ in range(most):
            if not page.records and not (page.log_id and page.next_offset < at):
                return
            yield page, at
            if len(page.records) < limit:
                return
            at = page.next_offset
            page = self._source.usage_read(self._replica, after=at, limit=limit)

    def _book(self, page: UsagePage, at: int) -> None:
        result = usage_ingest(
            source=self._replica,
            log_id=page.log_id,
            after=at,
            records=page.records,
            next_offset=page.next_offset,
        )
        self._done.records += len(page.records)
        self._done.inserted += result.inserted
        self._done.parked += result.parked
        self._tell(result)

    def _book_singly(self, at: int, *, until: int) -> None:
        """Go through a page that was refused record by record and set aside the ones at fault."""
        for page, offset in self._pages(Cursor(offset=at), limit=1, most=PAGE_RECORDS):
            try:
                self._book(page, offset)
            except UNBOOKABLE as error:
                self._done.records += 1
                self._done.parked += record_park(
                    source=self._replica,
                    log_id=page.log_id,
                    after=offset,
                    record=page.records[0],
                    next_offset=page.next_offset,
                    reason=f"The books refuse it: {error}",
                )
                complaints.complain(f"usage.ingest {self._replica} record", f"set aside: {error}")
            if page.next_offset >= until:
                return

    def _tell(self, result: IngestResult) -> None:
        for owner_id, balance in result.wallets.items():
            try:
                self._wallets.posted(
                    owner_id=owner_id, balance=balance, request_ids=result.request_ids[owner_id]
                )
            except RedisError as error:
                self._done.untold.add(owner_id)
                complaints.complain("usage.ingest valkey", f"{type(error).__name__}: {error}")
