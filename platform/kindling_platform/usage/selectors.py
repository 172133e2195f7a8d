"""Reads usage: sums from the hourly roll-up, single requests from the events."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Max, Min, Q, QuerySet, Sum
from django.db.models.functions import TruncDay, TruncHour

from kindling_billing.budgets import Spent
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.common.tenancy import HasId
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.models import ParkedUsage, UsageEvent, UsageHour

GROUPS: dict[str, Any] = {
    "day": TruncDay("hour"),
    "hour": TruncHour("hour"),
    "model": "model_id",
    "key": "key_id",
    "adapter": "adapter_id",
}


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Sums of one group; `group` is a moment or an id, tokens are counts, cost is pico-dollars."""

    group: Any
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_picousd: int = 0


SUMS = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_picousd")


def usage_by(*, org: HasId, group: str, start: datetime, end: datetime) -> list[UsageSum]:
    """Sums from `start` (its hour included) up to `end` by day, hour, model, key or adapter; days are UTC's.

    Raises:
        KindlingError: group_unknown.
    """
    if group not in GROUPS:
        raise KindlingError("group_unknown", f"Group by one of {', '.join(GROUPS)}.", param="group")
    rows = (
        _hours(org, start, end)
        .values(grouped=GROUPS[group]) if not isinstance(GROUPS[group], str)
        else _hours(org, start, end).values(GROUPS[group])
    )  # fmt: skip
    name = GROUPS[group] if isinstance(GROUPS[group], str) else "grouped"
    summed = rows.annotate(**{f"sum_{column}": Sum(column) for column in SUMS}).order_by(name)
    return [UsageSum(row[name], *(int(row[f"sum_{column}"] or 0) for column in SUMS)) for row in summed]


def usage_totals(*, org: HasId, start: datetime, end: datetime) -> UsageSum:
    """Sums over a span of time."""
    row = _hours(org, start, end).aggregate(**{f"sum_{column}": Sum(column) for column in SUMS})
    return UsageSum(None, *(int(row[f"sum_{column}"] or 0) for column in SUMS))


def usage_by_organisation(*, start: datetime, end: datetime) -> dict[str, UsageSum]:
    """Sums of every organisation; for the operator."""
    rows = (
        UsageHour.objects.filter(hour__gte=_hour(start), hour__lt=end)
        .values("organisation_id")
        .annotate(**{f"sum_{column}": Sum(column) for column in SUMS})
    )
    return {
        row["organisation_id"]: UsageSum(
            row["organisation_id"], *(int(row[f"sum_{column}"] or 0) for column in SUMS)
        )
        for row in rows
    }


def usage_event_list(*, org: HasId) -> OrgQuerySet:
    """An organisation's requests, newest first."""
    return UsageEvent.objects.for_org(org).order_by("-finished_at", "-request_id")


def usage_event_get(*, org: HasId, request_id: str) -> UsageEvent:
    """One request.

    Raises:
        KindlingError: not_found.
    """
    try:
        wanted = UUID(request_id)
    except ValueError as error:
        raise not_found("request") from error
    event: UsageEvent | None = UsageEvent.objects.for_org(org).filter(request_id=wanted).first()
    if event is None:
        raise not_found("request")
    return event


def spent_get(*, org_id: str, moment: datetime, version: int, member_id: str = "", key_id: str = "") -> Spent:
    """What an organisation, a member's keys, or a key and its successors have spent by the books.

    `version` is that of the wallet's account, read before: the sums hold at least its postings.
    """
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    keys = ApiKey.objects.filter(organisation_id=org_id)
    rows = UsageHour.objects.filter(organisation_id=org_id)
    if key_id:
        rows = rows.filter(key_id__in=keys.filter(Q(id=key_id) | Q(family_id=key_id)).values("id"))
    elif member_id:
        rows = rows.filter(key_id__in=keys.filter(created_by_id=member_id).values("id"))
    sums = rows.aggregate(
        total=Sum("cost_picousd"),
        month=Sum("cost_picousd", filter=Q(hour__gte=day.replace(day=1))),
        day=Sum("cost_picousd", filter=Q(hour__gte=day)),
    )
    return Spent(version, *(int(sums[period] or 0) for period in ("day", "month", "total")))


def first_call_at(*, org: HasId) -> datetime | None:
    """When an organisation's first answered request ended."""
    first = UsageEvent.objects.for_org(org).filter(billable=True).aggregate(first=Min("finished_at"))["first"]
    return first if isinstance(first, datetime) else None


def adapter_last_used_map(*, org: HasId) -> dict[str, datetime]:
    """The hour in which each adapter was last used."""
    rows = (
        UsageHour.objects.for_org(org).exclude(adapter_id="").values("adapter_id").annotate(last=Max("hour"))
    )
    return {row["adapter_id"]: row["last"] for row in rows}


def error_list_recent(*, org: HasId, limit: int = 5) -> list[UsageEvent]:
    """The newest requests that failed by a fault of ours."""
    return list(usage_event_list(org=org).filter(billable=False)[:limit])


def parked_list() -> QuerySet[ParkedUsage]:
    """Records that could not be billed; for the operator."""
    return ParkedUsage.objects.order_by("-created_at")


def _hours(org: HasId, start: datetime, end: datetime) -> OrgQuerySet:
    return UsageHour.objects.for_org(org).filter(hour__gte=_hour(start), hour__lt=end)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
