"""What was spent of budgets: an organisation's own counts requests and GPU time, a member's or a key's requests alone.

Machines are an organisation's and not a key's: whoever made the key that asks has no part in what replicas cost.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q, Sum

from kindling_billing.budgets import Spent
from kindling_billing.gpu_time import gpu_time_before
from kindling_platform.common.clock import now
from kindling_platform.deployments.accrued import accrued_map
from kindling_platform.deployments.models import GpuHour
from kindling_platform.keys.limits import budget_list
from kindling_platform.keys.models import LimitSet
from kindling_platform.usage.selectors import spent_get


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """The budget of an organisation of which least is left: its period (day, month or total), in pico-dollars."""

    period: str
    left_picousd: int


def budget_spent_get(*, limits: LimitSet, moment: datetime, version: int) -> Spent:
    """What those whom limits bind have spent by the books.

    `version` is that of the wallet's account, read before: the sums hold at least its postings.
    """
    requests = spent_get(
        org_id=limits.organisation_id,
        moment=moment,
        version=version,
        member_id=limits.member_id or "",
        key_id=limits.key_id or "",
    )
    if limits.scope != LimitSet.Scope.ORGANISATION:
        return requests
    day, month, total = _gpu_time(limits.organisation_id, moment)
    return Spent(
        version, requests.day_picousd + day, requests.month_picousd + month, requests.total_picousd + total
    )


def budgets_left_map(*, owner_ids: Collection[str], moment: datetime | None = None) -> dict[str, BudgetLeft]:
    """The tightest budget of each of these organisations, hours that are not posted yet taken off.

    Those without a budget of their own are absent; of members and keys nothing is asked.
    """
    moment = moment or now()
    rows = [row for row in budget_list(org_ids=list(owner_ids)) if row.scope == LimitSet.Scope.ORGANISATION]
    return {row.organisation_id: min(_left(row, moment), key=_amount) for row in rows}


def _left(limits: LimitSet, moment: datetime) -> list[BudgetLeft]:
    owner_id, day = limits.organisation_id, _day(moment)
    spent = budget_spent_get(limits=limits, moment=moment, version=0)
    budgets = (
        ("day", limits.budget_day_picousd, spent.day_picousd, day),
        ("month", limits.budget_month_picousd, spent.month_picousd, day.replace(day=1)),
        ("total", limits.budget_total_picousd, spent.total_picousd, None),
    )
    return [
        BudgetLeft(period, budget - used - accrued_map(owner_ids=[owner_id], since=since).get(owner_id, 0))
        for period, budget, used, since in budgets
        if budget is not None
    ]


def _gpu_time(org_id: str, moment: datetime) -> tuple[int, int, int]:
    """Posted GPU time of a day, its month and in all; single hours are read of that month alone."""
    day = _day(moment)
    month = day.replace(day=1)
    hours = GpuHour.objects.filter(organisation_id=org_id, hour__gte=month)
    sums = hours.aggregate(month=Sum("cost_picousd"), day=Sum("cost_picousd", filter=Q(hour__gte=day)))
    in_month = int(sums["month"] or 0)
    return int(sums["day"] or 0), in_month, in_month + gpu_time_before(owner_id=org_id, month=month.date())


def _day(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _amount(left: BudgetLeft) -> int:
    return left.left_picousd
