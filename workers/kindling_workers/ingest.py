"""Carries usage records from the engines' logs into the books, then tells Valkey the new balances.

The cursor moves in the transaction that books the records, so that a repeat after any kill finds what is
left and doubles nothing. A log that cannot be read does not hold up the others.
"""

from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError
from redis.exceptions import RedisError

from kindling_platform.usage.models import UsageCursor
from kindling_platform.usage.services import usage_ingest
from kindling_workers.complaints import complaints
from kindling_workers.drivers.base import UsageLog, UsageSource
from kindling_workers.wallets import Wallets

PAGE_RECORDS = 500
# So much of one log in one run; the next tick is a second away, and other logs wait as well.
MAX_PAGES = 20


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a log was read to; the id tells a log that was made anew."""

    log_id: str = ""
    offset: int = 0


@dataclass(slots=True)
class Ingested:
    """What a run did: records read and events booked; replicas whose log failed; owners Valkey missed."""

    records: int = 0
    inserted: int = 0
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
            log_ingest(source, wallets, log, cursor, done)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            done.failed.append(log.replica)
            complaints.complain(subject, f"{type(error).__name__}: {error}", error=error)
        else:
            complaints.content(subject)
    return done


def log_ingest(source: UsageSource, wallets: Wallets, log: UsageLog, cursor: Cursor, done: Ingested) -> None:
    """Book one log's records, page by page, up to a bound."""
    for _ in range(MAX_PAGES):
        page = source.usage_read(log.replica, after=cursor.offset, limit=PAGE_RECORDS)
        if cursor.log_id and page.log_id and page.log_id != cursor.log_id:
            # The file was made anew: what stood before the old offset is elsewhere now.
            cursor = Cursor(page.log_id, 0)
            continue
        if not page.records:
            return
        result = usage_ingest(
            source=log.replica,
            log_id=page.log_id,
            after=cursor.offset,
            records=page.records,
            next_offset=page.next_offset,
        )
        done.records += len(page.records)
        done.inserted += result.inserted
        for owner_id, balance in result.wallets.items():
            try:
                wallets.posted(owner_id=owner_id, balance=balance, request_ids=result.request_ids[owner_id])
            except RedisError as error:
                done.untold.add(owner_id)
                complaints.complain("usage.ingest valkey", f"{type(error).__name__}: {error}")
        cursor = Cursor(page.log_id, page.next_offset)
        if len(page.records) < PAGE_RECORDS:
            return
