"""Measures how fast models answer, from the requests of the last 24 hours; a periodic task does it, no page.

What everybody sees of it gives no organisation away. It is about the model's own deployments, which all share, never
about one that somebody runs for themselves; at least `ORGANISATIONS` have to have used them, none of which made more
than `LARGEST_SHARE` of the requests, or the figures would be that one's; there are two percentiles of times and a count
rounded down to two digits, in which the requests of one cannot be seen, and nothing of what was said, to whom, or with
which adapter. Everything else an organisation sees is measured from its own requests, and shown to it alone.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Sum

from kindling_platform.catalog.models import ModelSpeed
from kindling_platform.common.clock import now
from kindling_platform.usage.models import UsageSeries
from kindling_platform.usage.steps import step_floor

WINDOW = timedelta(hours=24)
ORGANISATIONS = 3
LARGEST_SHARE = 0.8
# Beyond a 95th percentile of a hundred there are five requests; of fewer it is one or two strays.
SAMPLES, TAIL_SAMPLES = 20, 100
# More requests of a day than this are not all measured but a part of them, drawn by their ids: it takes two seconds.
MOST = 250_000
# Until the transaction ends: what takes longer is given up and complained about, and sorts stay in memory.
BOUNDS = {"statement_timeout": "60s", "work_mem": "64MB"}
# One pass over the requests of a day, found by an index on their time. Those whose client left say nothing of how
# long an answer takes, batches wait by intent, and an adapter may have to be loaded first.
MEASURE = """
    WITH answered AS MATERIALIZED (
        SELECT e.model_id, e.organisation_id,
            m.is_public AND coalesce(d.organisation_id = m.organisation_id, false) AS is_shared,
            greatest(0, extract(epoch FROM e.finished_at - e.started_at) * 1000)::float8 AS duration_ms,
            greatest(0, extract(epoch FROM e.first_token_at - e.started_at) * 1000)::float8 AS first_token_ms,
            CASE WHEN e.completion_tokens > 1 AND e.finished_at > e.first_token_at
                THEN ((e.completion_tokens - 1) / extract(epoch FROM e.finished_at - e.first_token_at))::float8
            END AS tokens_per_s,
            e.first_token_at IS NOT NULL AS is_timed
        FROM usage_usageevent e
        JOIN catalog_model m ON m.id = e.model_id
        LEFT JOIN deployments_deployment d ON d.id = e.deployment_id
        WHERE e.finished_at >= %(start)s AND e.finished_at < %(end)s
            AND e.finish IN ('stop', 'length') AND e.adapter_id = '' AND NOT e.batch
            AND (%(nth)s = 1 OR (hashtext(e.request_id::text) & 2147483647) %% %(nth)s = 0)
    ), shares AS (
        SELECT model_id, organisation_id, count(*) AS requests FROM answered WHERE is_shared GROUP BY 1, 2
    ), safe AS (
        SELECT model_id FROM shares GROUP BY 1
        HAVING count(*) >= %(organisations)s AND max(requests) <= %(largest_share)s * sum(requests)
    ), scoped AS (
        SELECT model_id, organisation_id AS scope, duration_ms, first_token_ms, tokens_per_s, is_timed FROM answered
        UNION ALL
        SELECT model_id, '', duration_ms, first_token_ms, tokens_per_s, is_timed FROM answered
        WHERE is_shared AND model_id IN (SELECT model_id FROM safe)
    )
    SELECT model_id, scope, count(*), count(*) FILTER (WHERE is_timed), count(tokens_per_s),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY duration_ms),
        percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY first_token_ms) FILTER (WHERE is_timed),
        percentile_cont(ARRAY[0.5, 0.05]) WITHIN GROUP (ORDER BY tokens_per_s)
    FROM scoped GROUP BY 1, 2
    HAVING count(*) >= CASE WHEN scope = '' THEN %(tail_samples)s ELSE %(samples)s END
    ORDER BY 1, 2
"""
KEY = ("model", "organisation_id")
FIELDS = [field.name for field in ModelSpeed._meta.fields if field.name not in {"id", *KEY}]


def speeds_measure() -> int:
    """Measure every model anew and forget what is no longer so; gives the number of rows. Twice at once is as once."""
    end = now()
    start = end - WINDOW
    bounds: dict[str, Any] = {
        "start": start, "end": end, "organisations": ORGANISATIONS, "largest_share": LARGEST_SHARE,
        "samples": SAMPLES, "tail_samples": TAIL_SAMPLES, "nth": nth_of(start, end),
    }  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            for name, bound in BOUNDS.items():
                cursor.execute("SELECT set_config(%s, %s, true)", [name, bound])
            cursor.execute(MEASURE, bounds)
            rows = [_speed(row, window_start=start, window_end=end) for row in cursor.fetchall()]
        ModelSpeed.objects.bulk_create(
            rows, update_conflicts=True, unique_fields=KEY, update_fields=FIELDS, batch_size=1000
        )
        ModelSpeed.objects.filter(window_end__lt=end).delete()
    return len(rows)


def nth_of(start: datetime, end: datetime) -> int:
    """One in how many requests is measured; the roll-ups know how many there are."""
    steps = UsageSeries.objects.filter(facet="all", step__gte=step_floor(start), step__lt=end)
    requests = steps.aggregate(total=Sum("requests"))["total"] or 0
    return max(1, -(-requests // MOST))


def _speed(row: tuple[Any, ...], **window: Any) -> ModelSpeed:
    model_id, scope, samples, timed, rated, durations, firsts, rates = row
    counts = [samples, timed, rated] if scope else [rounded(count) for count in (samples, timed, rated)]
    duration = figures_of(durations, samples)
    first, rate = figures_of(firsts, timed), figures_of(rates, rated)
    return ModelSpeed(
        model_id=model_id, organisation_id=scope, **window,
        samples=counts[0], first_token_samples=counts[1], tokens_per_s_samples=counts[2],
        duration_p50_ms=duration[0] or 0.0, duration_p95_ms=duration[1],
        first_token_p50_ms=first[0], first_token_p95_ms=first[1],
        tokens_per_s_p50=rate[0], tokens_per_s_p95=rate[1],
    )  # fmt: skip


def figures_of(percentiles: list[float | None] | None, samples: int) -> tuple[float | None, float | None]:
    """The median and the tail, each as far as there are enough samples for it."""
    if percentiles is None or samples < SAMPLES:
        return None, None
    middle, tail = (None if one is None else round(one, 1) for one in percentiles)
    return middle, tail if samples >= TAIL_SAMPLES else None


def rounded(count: int) -> int:
    """A count down to its two leading digits."""
    unit: int = 10 ** max(0, len(str(count)) - 2)
    return count // unit * unit
