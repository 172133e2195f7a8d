"""Reads usage: sums from the roll-ups, single requests from the events."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import Max, Min, Q, QuerySet, Sum

from kindling_billing.budgets import Spent
from kindling_platform.common.errors import not_found
from kindling_platform.common.ids import request_id_read
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.common.tenancy import HasId
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.models import ParkedUsage, UsageEvent, UsageSeries, UsageSeriesDay
from kindling_platform.usage.pieces import Scope
from kindling_platform.usage.reports import UsageSum, total_get
from kindling_platform.usage.rollups import SUMS
from kindling_platform.usage.steps import step_ceil, step_floor

NO_FILTERS: Mapping[str, Sequence[str]] = {}


def usage_totals(*, org: HasId, start: datetime, end: datetime) -> UsageSum:
    """Sums over a span of time; the steps that its ends lie in count whole."""
    return total_get(Scope(org, step_floor(start), step_ceil(end)))


def usage_by_organisation(
    *, organisation_ids: Iterable[str], start: datetime, end: datetime
) -> dict[str, UsageSum]:
    """Sums of organisations, those without usage left out; for the operator."""
    steps = UsageSeries.objects.filter(facet="all", step__gte=step_floor(start), step__lt=end)
    rows = (
        steps.filter(organisation_id__in=list(organisation_ids))
        .values("organisation_id")
        .annotate(**{f"sum_{column}": Sum(column) for column in SUMS})
    )
    return {
        row["organisation_id"]: UsageSum._make(
            (row["organisation_id"], *(int(row[f"sum_{column}"]) for column in SUMS), None)
        )
        for row in rows
    }


def usage_event_list(
    *,
    org: HasId,
    start: datetime | None = None,
    end: datetime | None = None,
    only: Mapping[str, Sequence[str]] = NO_FILTERS,
) -> OrgQuerySet:
    """An organisation's requests, newest first: those that ended from `start` up to `end`, `only` some by column."""
    rows = UsageEvent.objects.for_org(org).order_by("-finished_at", "-request_id")
    rows = rows.filter(finished_at__gte=start) if start else rows
    rows = rows.filter(finished_at__lt=end) if end else rows
    return rows.filter(**{f"{column}__in": values for column, values in only.items()})


def usage_event_get(*, org: HasId, request_id: str) -> UsageEvent:
    """One request, by its own id or by that of its answer.

    Raises:
        KindlingError: not_found.
    """
    wanted = request_id_read(request_id)
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
    rows = UsageSeriesDay.objects.filter(
        organisation_id=org_id, facet="key" if key_id or member_id else "all"
    )
    if key_id:
        rows = rows.filter(value__in=keys.filter(Q(id=key_id) | Q(family_id=key_id)).values("id"))
    elif member_id:
        rows = rows.filter(value__in=keys.filter(created_by_id=member_id).values("id"))
    return _spent(rows.aggregate(**_periods(day)), version)


def spent_by_key_map(*, org_id: str, moment: datetime) -> dict[str, Spent]:
    """What each key of an organisation has spent by the books, each by itself; those without usage are absent."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    rows = UsageSeriesDay.objects.filter(organisation_id=org_id, facet="key").values("value")
    return {row["value"]: _spent(row, 0) for row in rows.annotate(**_periods(day)).order_by("value")}


def first_call_at(*, org: HasId) -> datetime | None:
    """When an organisation's first answered request ended."""
    first = UsageEvent.objects.for_org(org).filter(billable=True).aggregate(first=Min("finished_at"))["first"]
    return first if isinstance(first, datetime) else None


def adapter_last_used_map(*, org: HasId) -> dict[str, datetime]:
    """The hour in which each adapter was last used."""
    rows = UsageSeries.objects.for_org(org).filter(facet="adapter").exclude(value="")
    return {row["value"]: row["last"] for row in rows.values("value").annotate(last=Max("step"))}


def error_list_recent(*, org: HasId, limit: int = 5) -> list[UsageEvent]:
    """The newest requests that failed by a fault of ours."""
    return list(usage_event_list(org=org).filter(billable=False)[:limit])


def parked_list() -> QuerySet[ParkedUsage]:
    """Records that could not be billed; for the operator."""
    return ParkedUsage.objects.order_by("-created_at")


def _periods(day: datetime) -> dict[str, Sum]:
    return {
        "total": Sum("cost_picousd"),
        "month": Sum("cost_picousd", filter=Q(day__gte=day.replace(day=1))),
        "today": Sum("cost_picousd", filter=Q(day__gte=day)),
    }


def _spent(sums: Mapping[str, Any], version: int) -> Spent:
    return Spent(version, *(int(sums[period] or 0) for period in ("today", "month", "total")))
