"""Deletes requests that are older than they are kept, when no invoice and no run needs them any more.

What they cost stays: the hourly sums, the ledger and the invoices do not change, and for the proofs and for previews of
prices the sums of what was deleted are added up by day and model in the statement that deletes it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from kindling_billing.models import LedgerTransaction
from kindling_billing.models.prices import Rerating
from kindling_billing.totals import months_open
from kindling_billing.usage import USAGE
from kindling_platform.common.clock import now
from kindling_platform.usage.models import RetiredUsage, UsageEvent

STEP_ROWS = 2000
# The first owner, then the next behind each: as many looks into the index as there are owners.
OWNERS_WITH_OLD = """
    WITH RECURSIVE owner AS (
        (SELECT organisation_id AS id FROM usage_usageevent ORDER BY organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT organisation_id FROM usage_usageevent WHERE organisation_id > owner.id
                ORDER BY organisation_id LIMIT 1)
        FROM owner WHERE owner.id IS NOT NULL
    )
    SELECT id FROM owner WHERE id IS NOT NULL AND EXISTS (
        SELECT 1 FROM usage_usageevent WHERE organisation_id = owner.id AND finished_at < %s)
"""
# The rows are picked before any is deleted: as part of the condition they might be picked anew for each row.
RETIRE = """
    WITH old AS MATERIALIZED (
        SELECT request_id FROM usage_usageevent WHERE organisation_id = %s AND finished_at < %s
        ORDER BY finished_at LIMIT %s FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM usage_usageevent WHERE request_id IN (SELECT request_id FROM old)
        RETURNING organisation_id, (finished_at AT TIME ZONE 'UTC')::date AS day, model_id, batch, billable,
            prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_picousd
    ), added AS (
        INSERT INTO usage_retiredusage AS retired (organisation_id, day, model_id, batch, requests, failed,
            prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, cost_picousd)
        SELECT organisation_id, day, model_id, batch, count(*), count(*) FILTER (WHERE NOT billable),
            coalesce(sum(prompt_tokens) FILTER (WHERE billable), 0),
            coalesce(sum(cached_tokens) FILTER (WHERE billable), 0),
            coalesce(sum(completion_tokens) FILTER (WHERE billable), 0),
            coalesce(sum(reasoning_tokens) FILTER (WHERE billable), 0), sum(cost_picousd)
        FROM gone GROUP BY organisation_id, day, model_id, batch
        ON CONFLICT (organisation_id, day, model_id, batch) DO UPDATE SET
            requests = retired.requests + excluded.requests,
            failed = retired.failed + excluded.failed,
            prompt_tokens = retired.prompt_tokens + excluded.prompt_tokens,
            cached_tokens = retired.cached_tokens + excluded.cached_tokens,
            completion_tokens = retired.completion_tokens + excluded.completion_tokens,
            reasoning_tokens = retired.reasoning_tokens + excluded.reasoning_tokens,
            cost_picousd = retired.cost_picousd + excluded.cost_picousd
    )
    SELECT count(*) FROM gone
"""


@dataclass(slots=True)
class Retired:
    """What one run deleted, and whether there may be more."""

    requests: int = 0
    more: bool = False


def usage_kept_from() -> datetime | None:
    """Since when requests are kept, None for ever."""
    days = settings.KINDLING_ENV.keep_requests_days
    return now() - timedelta(days=days) if days else None


def usage_retire(*, most: int = 10 * STEP_ROWS) -> Retired:
    """Delete up to `most` requests that are old enough, in steps that may be cut off anywhere.

    Kept whatever their age: requests of months that are not on a final invoice, and all while a run rates anew, also
    one that is asked for between two steps.
    """
    kept_from, done = usage_kept_from(), Retired()
    if kept_from is None or _is_rating_anew():
        return done
    owners = _owners(kept_from)
    unbilled = months_open(owners)
    for owner_id in owners:
        before = _before(owner_id, kept_from, unbilled)
        while deleted := _step(owner_id, before, min(STEP_ROWS, most - done.requests)):
            done.requests += deleted
            if done.requests >= most:
                done.more = True
                return done
    return done


def retention_lock() -> None:
    """Deleting requests and beginning a run over them one after the other, until the transaction ends.

    A run that has begun is seen by the next step; a step that has deleted is seen by whoever wants to begin.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('kindling.usage.retention'))")


def retired_between(*, start: datetime, end: datetime, owner_id: str = "") -> bool:
    """Whether requests of a day (UTC) that this span touches were deleted, one organisation's or anybody's."""
    last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
    rows = RetiredUsage.objects.filter(day__gte=start.astimezone(UTC).date(), day__lte=last)
    return (rows.filter(organisation_id=owner_id) if owner_id else rows).exists()


def retired_list(events: Iterable[UsageEvent]) -> set[UUID]:
    """Which of these were booked, and deleted since: a log that is read again from its beginning brings them back."""
    kept_from = usage_kept_from()
    old = [str(event.request_id) for event in events if kept_from and event.finished_at < kept_from]
    if not old:
        return set()
    rows = LedgerTransaction.objects.filter(source_type=USAGE, source_id__in=old)
    return {UUID(source_id) for source_id in rows.values_list("source_id", flat=True)}


def _owners(kept_from: datetime) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(OWNERS_WITH_OLD, [kept_from])
        return [owner_id for (owner_id,) in cursor.fetchall()]


def _before(owner_id: str, kept_from: datetime, unbilled: Mapping[str, date]) -> datetime:
    first = unbilled.get(owner_id)
    return min(kept_from, datetime.combine(first, time(), UTC)) if first else kept_from


@transaction.atomic
def _step(owner_id: str, before: datetime, limit: int) -> int:
    retention_lock()
    if _is_rating_anew():
        return 0
    with connection.cursor() as cursor:
        cursor.execute(RETIRE, [owner_id, before, limit])
        return int(cursor.fetchone()[0])


def _is_rating_anew() -> bool:
    return Rerating.objects.filter(done_at=None).exists()
