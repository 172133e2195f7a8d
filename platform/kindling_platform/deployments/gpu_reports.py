"""GPU time as organisations and the operator read it: sums by deployment over a span, and as rows of a table.

An hour of UTC is the smallest piece; it belongs to the hour, day or month of a time zone that it begins in.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Sum

from kindling_billing.gpu_hours import HOUR_MS
from kindling_billing.money import pico_to_usd_text
from kindling_platform.common.tenancy import HasId
from kindling_platform.deployments.models import GpuHour
from kindling_platform.usage.questions import Question

SUMS = """
    SELECT width_bucket(hour, %s::timestamptz[]), deployment_id, max(deployment_name), sum(held_ms)::bigint,
        sum(cost_picousd)::bigint, coalesce(sum(held_ms) FILTER (WHERE state <> 'posted'), 0)::bigint
    FROM deployments_gpuhour WHERE organisation_id = %s AND hour >= %s AND hour < %s
    GROUP BY 1, 2 ORDER BY 1, 5 DESC, 2
"""
COLUMNS = ("from", "to", "deployment", "deployment_name", "gpu_ms", "unbilled_ms", "cost_picousd", "cost_usd")


class GpuSum(NamedTuple):
    """What a deployment's replicas held in one bucket, in milliseconds; `unbilled_ms` of it have no price yet."""

    deployment_id: str = ""
    name: str = ""
    held_ms: int = 0
    cost_picousd: int = 0
    unbilled_ms: int = 0
    at: datetime | None = None

    @property
    def hours(self) -> Decimal:
        """Hours of a replica."""
        return Decimal(self.held_ms) / HOUR_MS


def gpu_time_list(question: Question) -> list[GpuSum]:
    """Sums by deployment over the span, or over each of its buckets, the dearest first; whatever else is asked for."""
    starts = question.starts
    with connection.cursor() as cursor:
        cursor.execute(
            SUMS, [list(starts or [question.start]), question.org.id, question.start, question.end]
        )
        rows = cursor.fetchall()
    return [
        GpuSum(id_, name, held, cost, unbilled, starts[bucket - 1] if starts else None)
        for bucket, id_, name, held, cost, unbilled in rows
    ]


def gpu_time_total(rows: Iterable[GpuSum]) -> GpuSum:
    """Several sums as one."""
    held = list(rows)
    sums = (sum(getattr(row, name) for row in held) for name in ("held_ms", "cost_picousd", "unbilled_ms"))
    return GpuSum("", "", *sums)


def gpu_time_beside(question: Question) -> GpuSum | None:
    """What replicas held beside the requests that a question sums; None where it chooses some of them.

    Machines have no key and no outcome: a sum of some requests and all GPU time would be nobody's.
    """
    if question.only:
        return None
    return gpu_time_total(gpu_time_list(replace(question, interval="", by="")))


def gpu_time_by_organisation(
    *, organisation_ids: Iterable[str], start: datetime, end: datetime
) -> dict[str, int]:
    """What GPU time cost organisations in the hours of a span, in pico-dollars; those without are absent."""
    hours = GpuHour.objects.filter(organisation_id__in=list(organisation_ids), hour__gte=start, hour__lt=end)
    sums = hours.values("organisation_id").annotate(total=Sum("cost_picousd"))
    return {row["organisation_id"]: int(row["total"]) for row in sums}


def gpu_time_spent(*, org: HasId, start: datetime, end: datetime) -> int:
    """What an organisation's replicas cost in the hours of a span, in pico-dollars."""
    rows = GpuHour.objects.for_org(org).filter(hour__gte=start, hour__lt=end)
    return int(rows.aggregate(total=Sum("cost_picousd"))["total"] or 0)


def gpu_time_rows(question: Question) -> Iterator[Sequence[Any]]:
    """A header, then a row for each deployment and bucket; their cost is the ledger's, to the pico-dollar."""
    yield COLUMNS
    starts = question.starts
    ends = dict(pairwise([*starts, question.end]))
    for row in gpu_time_list(question):
        start = row.at or question.start
        moments = (moment.astimezone(question.zone) for moment in (start, ends.get(start, question.end)))
        usd = pico_to_usd_text(row.cost_picousd, 12).replace(",", "")
        yield (
            *moments, row.deployment_id, row.name, row.held_ms, row.unbilled_ms, row.cost_picousd, usd,
        )  # fmt: skip
