"""Usage of the whole installation over time, from the series of its organisations; for the operator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMonth

from kindling_platform.usage.models import UsageSeries

FIGURES = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_picousd")
# The facet whose rows say it, and their column that does.
SHARES = {"organisation": ("all", "organisation_id"), "model": ("model", "value")}
STEPS = {"hour": TruncHour, "day": TruncDay, "month": TruncMonth}


@dataclass(frozen=True, slots=True)
class Figures:
    """Sums of one moment, organisation or model; tokens are counts, cost is pico-dollars."""

    group: Any = None
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_picousd: int = 0


def usage_over_time(*, start: datetime, end: datetime, step: str) -> dict[datetime, Figures]:
    """Sums of every hour, day or month (UTC) with usage; days and months begin with whole ones."""
    rows = _series("all", start, end).values(grouped=STEPS[step]("step"))
    return {row.group: row for row in _sums(rows, "grouped")}


def usage_shares(*, start: datetime, end: datetime, by: str) -> list[Figures]:
    """Sums by organisation or model over a span, the dearest first."""
    facet, column = SHARES[by]
    found = _sums(_series(facet, start, end).values(grouped=F(column)), "grouped")
    return sorted(found, key=lambda row: (-row.cost_picousd, str(row.group)))


def usage_burnt(*, start: datetime, end: datetime) -> dict[str, int]:
    """What each organisation spent in a span, in pico-dollars; those that used nothing are absent."""
    rows = _series("all", start, end).values("organisation_id").annotate(total=Sum("cost_picousd"))
    return {row["organisation_id"]: int(row["total"] or 0) for row in rows}


def _series(facet: str, start: datetime, end: datetime) -> QuerySet[Any]:
    return UsageSeries.objects.filter(facet=facet, step__gte=start, step__lt=end)


def _sums(rows: QuerySet[Any], name: str) -> list[Figures]:
    summed: Any = rows.annotate(**{f"sum_{one}": Sum(one) for one in FIGURES}).order_by(name)
    return [_sum(row[name], row) for row in summed]


def _sum(group: Any, row: dict[str, Any]) -> Figures:
    return Figures(group, *(int(row[f"sum_{one}"] or 0) for one in FIGURES))
