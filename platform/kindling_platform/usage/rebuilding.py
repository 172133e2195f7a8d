"""Makes the roll-ups of days anew from the requests of those days: what the booking adds up, by a way of its own."""

from datetime import UTC, date, datetime, time, timedelta

from django.db import connection, transaction

from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.models import RetiredUsage
from kindling_platform.usage.rollups import DAYS, FACETS, HOURS, SERIES, SERIES_DAYS, SUMS, TABLES
from kindling_platform.usage.steps import STEP_SQL
from kindling_platform.usage.witnesses import usage_lock

ADDED = ", ".join(f"sum({column})" for column in SUMS)
EMPTY = tuple(
    f"DELETE FROM {table.name} WHERE {table.moment} >= %s AND {table.moment} < %s"  # noqa: S608  # names of ours only
    for table in TABLES
)
HOURS_OF_REQUESTS = f"""
    INSERT INTO {HOURS.name} ({", ".join((*HOURS.key, *SUMS))})
    SELECT organisation_id, {STEP_SQL.format(moment="finished_at")}, model_id, adapter_id, key_id, finish,
        count(*), count(*) FILTER (WHERE NOT billable), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens),
        sum(greatest(0, floor(extract(epoch FROM finished_at - started_at) * 1000))),
        coalesce(sum(greatest(0, floor(extract(epoch FROM first_token_at - started_at) * 1000))), 0),
        count(first_token_at), sum(cost_picousd)
    FROM usage_usageevent WHERE finished_at >= %s AND finished_at < %s GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608  # names of ours only
DAYS_OF_HOURS = f"""
    INSERT INTO {DAYS.name} ({", ".join((*DAYS.key, *SUMS))})
    SELECT organisation_id, date_trunc('day', hour, 'UTC'), model_id, adapter_id, key_id, finish, {ADDED}
    FROM {HOURS.name} WHERE hour >= %s AND hour < %s GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608  # names of ours only
SERIES_OF_HOURS = f"""
    INSERT INTO {SERIES.name} ({", ".join((*SERIES.key, *SUMS))})
    SELECT organisation_id, %s::text, hour, {{value}}, {ADDED}
    FROM {HOURS.name} WHERE hour >= %s AND hour < %s GROUP BY 1, 2, 3, 4
"""  # noqa: S608  # names of ours only
SERIES_DAYS_OF_SERIES = f"""
    INSERT INTO {SERIES_DAYS.name} ({", ".join((*SERIES_DAYS.key, *SUMS))})
    SELECT organisation_id, facet, date_trunc('day', step, 'UTC'), value, {ADDED}
    FROM {SERIES.name} WHERE step >= %s AND step < %s GROUP BY 1, 2, 3, 4
"""  # noqa: S608  # names of ours only


def days_rebuild(*, first: date, last: date) -> int:
    """Make the roll-ups of days (UTC, both included) of all organisations anew; gives their rows by hour.

    One transaction, in which no request is booked; it may run at any time, and again.

    Raises:
        KindlingError: `requests_not_kept` where some were deleted.
    """
    span = [datetime.combine(first, time(), UTC), datetime.combine(last, time(), UTC) + timedelta(days=1)]
    with transaction.atomic(), connection.cursor() as cursor:
        usage_lock()
        if RetiredUsage.objects.filter(day__gte=first, day__lte=last).exists():
            text = "Requests of these days were deleted because they are old; their sums cannot be made anew."
            raise KindlingError("requests_not_kept", text, 409)
        for query in EMPTY:
            cursor.execute(query, span)
        cursor.execute(HOURS_OF_REQUESTS, span)
        rows = int(cursor.rowcount)
        cursor.execute(DAYS_OF_HOURS, span)
        for facet, column in FACETS.items():
            cursor.execute(SERIES_OF_HOURS.format(value=column or "''::text"), [facet, *span])
        cursor.execute(SERIES_DAYS_OF_SERIES, span)
    return rows
