"""Usage of the whole installation over time, from the hourly roll-up; for the operator."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import QuerySet, Sum
from django.db.models.functions import TruncDay, TruncHour, TruncMonth

from kindling_platform.usage.models import UsageHour

FIGURES = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_picousd")
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
    rows = _hours(start, end).values(grouped=STEPS[step]("hour"))
    return {row.group: row for row in _sums(rows, "grouped")}


def usage_shares(*, start: datetime, end: datetime, by: str) -> list[Figures]:
    """Sums by organisation or model over a span, the dearest first."""
    name = f"{by}_id"
    found = _sums(_hours(start, end).values(name), name)
    return sorted(found, key=lambda row: (-row.cost_picousd, str(row.group)))


def usage_burnt(*, start: datetime, end: datetime) -> dict[str, int]:
    """What each organisation spent in a span, in pico-dollars; those that used nothing are absent."""
    rows = _hours(start, end).values("organisation_id").annotate(total=Sum("cost_picousd"))
    return {row["organisation_id"]: int(row["total"] or 0) for row in rows}


def _hours(start: datetime, end: datetime) -> QuerySet[Any]:
    return UsageHour.objects.filter(hour__gte=start, hour__lt=end)


def _sums(rows: QuerySet[Any], name: str) -> list[Figures]:
    summed: Any = rows.annotate(**{f"sum_{one}": Sum(one) for one in FIGURES}).order_by(name)
    return [_sum(row[name], row) for row in summed]


def _sum(group: Any, row: dict[str, Any]) -> Figures:
    return Figures(group, *(int(row[f"sum_{one}"] or 0) for one in FIGURES))
