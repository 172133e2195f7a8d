"""What each model brought in and cost, day by day: revenue by the books, costs by the time that replicas ran.

Revenue is what requests cost by the roll-up by model, and what organisations were charged for replicas of their own.
Tokens are the roll-up's too; running time comes from the intervals of replicas, busy time from what engines said of
themselves. Days are those of UTC; a month is the sum of its days.
"""

from collections import defaultdict
from datetime import date, datetime

from django.db.models import Sum
from django.db.models.functions import TruncDay

from kindling_billing.costs import cost_book
from kindling_billing.margins import Margin, Run, running_days
from kindling_platform.deployments.models import GpuHour, ReplicaHour, ReplicaInterval
from kindling_platform.usage.models import UsageSeries

Days = dict[tuple[str, date], Margin]


def margin_days(*, start: datetime, end: datetime, model_id: str = "") -> Days:
    """Margins by model and day from one UTC midnight to another; of one model when it is named."""
    days: Days = defaultdict(Margin)
    for part in (_served, _rented, _ran, _worked):
        for key, margin in part(start, end, model_id).items():
            days[key] += margin
    return dict(days)


def margin_models(days: Days) -> dict[str, Margin]:
    """The sums of days by model."""
    sums: dict[str, Margin] = defaultdict(Margin)
    for (model_id, _), margin in days.items():
        sums[model_id] += margin
    return dict(sums)


def _served(start: datetime, end: datetime, model_id: str) -> Days:
    rows = UsageSeries.objects.filter(facet="model", step__gte=start, step__lt=end)
    rows = rows.filter(value=model_id) if model_id else rows
    sums = (
        rows.annotate(day=TruncDay("step"))
        .values("value", "day")
        .annotate(
            revenue=Sum("cost_picousd"),
            prompts=Sum("prompt_tokens"),
            cached=Sum("cached_tokens"),
            answers=Sum("completion_tokens"),
        )
    )
    return {
        (row["value"], row["day"].date()): Margin(
            revenue_picousd=int(row["revenue"]),
            prompt_tokens=int(row["prompts"]),
            cached_tokens=int(row["cached"]),
            completion_tokens=int(row["answers"]),
        )
        for row in sums
    }


def _rented(start: datetime, end: datetime, model_id: str) -> Days:
    rows = GpuHour.objects.filter(hour__gte=start, hour__lt=end)
    rows = rows.filter(model_id=model_id) if model_id else rows
    sums = rows.annotate(day=TruncDay("hour")).values("model_id", "day").annotate(revenue=Sum("cost_picousd"))
    return {(row["model_id"], row["day"].date()): Margin(revenue_picousd=int(row["revenue"])) for row in sums}


def _ran(start: datetime, end: datetime, model_id: str) -> Days:
    rows = ReplicaInterval.objects.filter(started_at__lt=end, last_seen_at__gt=start)
    rows = rows.filter(model_id=model_id) if model_id else rows
    spans = rows.values_list("model_id", "started_at", "last_seen_at")
    return running_days((Run(*span) for span in spans), cost_book(), start=start, end=end)


def _worked(start: datetime, end: datetime, model_id: str) -> Days:
    rows = ReplicaHour.objects.filter(hour__gte=start, hour__lt=end)
    rows = rows.filter(interval__model_id=model_id) if model_id else rows
    sums = (
        rows.annotate(day=TruncDay("hour"))
        .values("interval__model_id", "day")
        .annotate(busy=Sum("busy_us"), looked=Sum("looked_us"))
    )
    return {
        (row["interval__model_id"], row["day"].date()): Margin(
            busy_us=int(row["busy"]), looked_us=int(row["looked"])
        )
        for row in sums
    }
