"""Measures each deployment: how fast it answered in the last 24 hours, and how many requests came in the last one.

As for models (`speeds`), a periodic task does it and no page, and what everybody sees of a shared deployment gives no
organisation away: at least so many have to have used it, none of them for nearly all of it, in the day and, for the
requests of the hour, in that hour too. Where there is no such figure an organisation sees its own requests, and the
operator always sees all of them.
Adapters' requests count, since they are what a deployment is for; batches wait by intent and are requests, not answers.
"""

from datetime import timedelta
from typing import Any

from django.db import connection, transaction

from kindling_platform.common.clock import now
from kindling_platform.deployments.models import DeploymentSpeed
from kindling_platform.deployments.speeds import (
    BOUNDS,
    LARGEST_SHARE,
    ORGANISATIONS,
    SAMPLES,
    TAIL_SAMPLES,
    WINDOW,
    nth_of,
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
            AND max(answers) <= %(largest_share)s * sum(answers) AND sum(answers) >= %(tail_samples)s
    ), scoped AS (
        SELECT a.*, '*' AS scope, true AS tells_hour FROM asked a
        UNION ALL
        -- Where there is what everybody sees, nobody is shown their own beside it.
        SELECT a.*, a.organisation_id, true FROM asked a
        WHERE NOT EXISTS (SELECT FROM safe s WHERE s.deployment_id = a.deployment_id)
        UNION ALL
        SELECT a.*, '', s.hour_is_safe FROM asked a JOIN safe s USING (deployment_id) WHERE a.is_shared
    ), measured AS (
        SELECT deployment_id, scope, count(*) FILTER (WHERE is_answer) AS samples,
            count(first_token_ms) FILTER (WHERE is_answer) AS timed,
            CASE WHEN bool_and(tells_hour) THEN count(*) FILTER (WHERE is_recent) * %(nth)s END AS recent,
            percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms) FILTER (WHERE is_answer) AS durations,
            percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_token_ms)
                FILTER (WHERE is_answer AND first_token_ms IS NOT NULL) AS firsts,
            -- Counts that everybody sees are rounded down to two digits.
            scope = '' AS is_rounded
        FROM scoped GROUP BY 1, 2
    )
    INSERT INTO deployments_deploymentspeed AS kept
        (deployment_id, scope, window_start, window_end, samples, first_token_samples, hour_requests,
        duration_p50_ms, duration_p95_ms, first_token_p50_ms, first_token_p95_ms)
    SELECT deployment_id, scope, %(start)s, %(end)s,
        CASE WHEN is_rounded THEN trunc(samples::numeric, 2 - length(samples::text)) ELSE samples END,
        CASE WHEN is_rounded THEN trunc(timed::numeric, 2 - length(timed::text)) ELSE timed END,
        CASE WHEN is_rounded THEN trunc(recent::numeric, 2 - length(recent::text)) ELSE recent END,
        CASE WHEN samples >= %(samples)s THEN round(durations[1]::numeric, 1) END,
        CASE WHEN samples >= %(tail_samples)s THEN round(durations[2]::numeric, 1) END,
        CASE WHEN timed >= %(samples)s THEN round(firsts[1]::numeric, 1) END,
        CASE WHEN timed >= %(tail_samples)s THEN round(firsts[2]::numeric, 1) END
    FROM measured ORDER BY 1, 2
    ON CONFLICT (deployment_id, scope) DO UPDATE SET
        window_start = excluded.window_start, window_end = excluded.window_end, samples = excluded.samples,
        first_token_samples = excluded.first_token_samples, hour_requests = excluded.hour_requests,
        duration_p50_ms = excluded.duration_p50_ms, duration_p95_ms = excluded.duration_p95_ms,
        first_token_p50_ms = excluded.first_token_p50_ms, first_token_p95_ms = excluded.first_token_p95_ms
"""


def paces_measure() -> int:
    """Measure every deployment anew and forget what is no longer so; gives the number of rows. Twice is as once.

    The rows stay in the database: there may be one for each organisation.
    """
    end = now()
    start = end - WINDOW
    bounds: dict[str, Any] = {
        "start": start, "end": end, "hour": end - HOUR, "nth": nth_of(start, end), "organisations": ORGANISATIONS,
        "largest_share": LARGEST_SHARE, "samples": SAMPLES, "tail_samples": TAIL_SAMPLES,
    }  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            for name, bound in BOUNDS.items():
                cursor.execute("SELECT set_config(%s, %s, true)", [name, bound])
            cursor.execute(MEASURE, bounds)
            rows: int = cursor.rowcount
        DeploymentSpeed.objects.filter(window_end__lt=end).delete()
    return rows
