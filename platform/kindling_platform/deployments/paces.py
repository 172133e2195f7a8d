"""Measures each deployment: how fast it answered in the last 24 hours, and how many requests came in the last one.

As for models (`speeds`), a periodic task does it and no page, and what everybody sees of a shared deployment gives no
organisation away: at least so many have to have used it, none of them for nearly all of it, in the day and, for the
requests of the hour, in that hour too. An organisation sees its own requests beside that, the operator all of them.
Adapters' requests count, since they are what a deployment is for; batches wait by intent and are requests, not answers.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from kindling_platform.common.clock import now
from kindling_platform.deployments.models import DeploymentSpeed
from kindling_platform.deployments.speeds import (
    BOUNDS,
    LARGEST_SHARE,
    ORGANISATIONS,
    TAIL_SAMPLES,
    WINDOW,
    figures_of,
    nth_of,
    rounded,
)

HOUR = timedelta(hours=1)
MEASURE = """
    WITH asked AS MATERIALIZED (
        SELECT e.deployment_id, e.organisation_id, m.is_public AND d.organisation_id = m.organisation_id AS is_shared,
            greatest(0, extract(epoch FROM e.finished_at - e.started_at) * 1000)::float8 AS duration_ms,
            greatest(0, extract(epoch FROM e.first_token_at - e.started_at) * 1000)::float8 AS first_token_ms,
            e.finish IN ('stop', 'length') AND NOT e.batch AS is_answer, e.finished_at >= %(hour)s AS is_recent
        FROM usage_usageevent e
        JOIN deployments_deployment d ON d.id = e.deployment_id AND d.desired_state <> 'deleted'
        JOIN catalog_model m ON m.id = d.model_id
        WHERE e.finished_at >= %(start)s AND e.finished_at < %(end)s
            AND (%(nth)s = 1 OR (hashtext(e.request_id::text) & 2147483647) %% %(nth)s = 0)
    ), shares AS (
        SELECT deployment_id, organisation_id, count(*) FILTER (WHERE is_answer) AS answers,
            count(*) FILTER (WHERE is_recent) AS recent
        FROM asked WHERE is_shared GROUP BY 1, 2
    ), safe AS (
        SELECT deployment_id, count(*) FILTER (WHERE recent > 0) >= %(organisations)s
            AND max(recent) <= %(largest_share)s * sum(recent) AS hour_is_safe
        FROM shares GROUP BY 1
        HAVING count(*) FILTER (WHERE answers > 0) >= %(organisations)s
            AND max(answers) <= %(largest_share)s * sum(answers)
    ), scoped AS (
        SELECT a.*, unnest(ARRAY[a.organisation_id, '*']) AS scope, true AS tells_hour FROM asked a
        UNION ALL
        SELECT a.*, '', s.hour_is_safe FROM asked a JOIN safe s USING (deployment_id) WHERE a.is_shared
    )
    SELECT deployment_id, scope, count(*) FILTER (WHERE is_answer),
        count(first_token_ms) FILTER (WHERE is_answer), count(*) FILTER (WHERE is_recent), bool_and(tells_hour),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE is_answer),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_token_ms)
            FILTER (WHERE is_answer AND first_token_ms IS NOT NULL)
    FROM scoped GROUP BY 1, 2
    HAVING scope <> '' OR count(*) FILTER (WHERE is_answer) >= %(tail_samples)s
    ORDER BY 1, 2
"""
KEY = ("deployment", "scope")
FIELDS = [field.name for field in DeploymentSpeed._meta.fields if field.name not in {"id", *KEY}]


def paces_measure() -> int:
    """Measure every deployment anew and forget what is no longer so; gives the number of rows. Twice is as once."""
    end = now()
    start = end - WINDOW
    nth = nth_of(start, end)
    bounds: dict[str, Any] = {
        "start": start, "end": end, "hour": end - HOUR, "nth": nth, "organisations": ORGANISATIONS,
        "largest_share": LARGEST_SHARE, "tail_samples": TAIL_SAMPLES,
    }  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            for name, bound in BOUNDS.items():
                cursor.execute("SELECT set_config(%s, %s, true)", [name, bound])
            cursor.execute(MEASURE, bounds)
            rows = [_pace(row, nth, start, end) for row in cursor.fetchall()]
        DeploymentSpeed.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=KEY, update_fields=FIELDS, batch_size=1000
        )
        DeploymentSpeed.objects.filter(window_end__lt=end).delete()
    return len(rows)


def _pace(row: tuple[Any, ...], nth: int, start: datetime, end: datetime) -> DeploymentSpeed:
    deployment_id, scope, samples, timed, recent, tells_hour, durations, firsts = row
    counts = [samples, timed, recent * nth]
    if scope == DeploymentSpeed.EVERYBODY:
        counts = [rounded(count) for count in counts]
    duration, first = figures_of(durations, samples), figures_of(firsts, timed)
    return DeploymentSpeed(
        deployment_id=deployment_id, scope=scope, window_start=start, window_end=end,
        samples=counts[0], first_token_samples=counts[1],
        duration_p50_ms=duration[0], duration_p95_ms=duration[1],
        first_token_p50_ms=first[0], first_token_p95_ms=first[1],
        hour_requests=counts[2] if tells_hour else None,
    )  # fmt: skip
