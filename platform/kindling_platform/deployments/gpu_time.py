"""Bills the hours that replicas of organisations' own deployments were ready in: each closed hour once.

How far an interval is billed is a column of its row, which is locked and moved by the transaction that posts: whoever
dies, or races, finds every hour either posted or untouched. An hour without a price is parked and tried again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db import transaction

from kindling_billing.book import PriceBook
from kindling_billing.gpu_hours import HOUR, HeldPart, held_ms, hour_floor, hours_cut, time_rate
from kindling_billing.gpu_time import GpuCharge, gpu_time_post
from kindling_billing.selectors import price_book
from kindling_platform.common.crash_points import crash_point
from kindling_platform.deployments.models import UNBILLED, Deployment, GpuHour, ReplicaInterval

# So many hours in one transaction; an interval that is further behind takes several.
MOST_HOURS = 200
RETRIED = 500
NO_PRICE = "There is no price of GPU time for this model at that hour."


@dataclass(slots=True)
class Billed:
    """What a step did: hours posted and parked, their cost in pico-dollars, and whose wallets it moved."""

    posted: int = 0
    parked: int = 0
    cost_picousd: int = 0
    owner_ids: set[str] = field(default_factory=set)

    def add(self, other: "Billed") -> None:
        """Add another step's figures to these."""
        self.posted += other.posted
        self.parked += other.parked
        self.cost_picousd += other.cost_picousd
        self.owner_ids |= other.owner_ids


def interval_list_unbilled(*, moment: datetime) -> list[int]:
    """Intervals that may have closed hours to bill, longest behind first."""
    rows = ReplicaInterval.objects.filter(UNBILLED, billed_until__lt=hour_floor(moment))
    return list(rows.order_by("billed_until", "id").values_list("id", flat=True))


@transaction.atomic
def interval_bill(*, interval_id: int, moment: datetime) -> Billed:
    """Post or park the closed hours of an interval, so many at once, that are not billed yet.

    An hour is closed when it is over and the interval has either ended or been heard of after it.
    """
    interval = ReplicaInterval.objects.select_for_update().filter(UNBILLED, id=interval_id).first()
    hours = _hours_closed(interval, moment) if interval else []
    if interval is None or not hours:
        return Billed()
    name = _name_of(interval.deployment_id)
    rows = [_row(interval, name, *cut) for cut in hours]
    held = [row for row in rows if row.held_ms]
    done = _rate_and_post(held, {interval.id: interval})
    GpuHour.objects.bulk_create(held)
    interval.billed_until = hours[-1][1]
    interval.save(update_fields=["billed_until"])
    crash_point("gpu_time.written")
    return done


@transaction.atomic
def parked_hours_retry(*, after: int = 0) -> tuple[Billed, int]:
    """Post those of the next parked hours that have a price now; gives also the last one's id, 0 behind them all."""
    rows = list(
        GpuHour.objects.select_for_update(skip_locked=True)
        .filter(state=GpuHour.State.PARKED, id__gt=after)
        .order_by("id")[:RETRIED]
    )
    if not rows:
        return Billed(), 0
    intervals = ReplicaInterval.objects.in_bulk({row.interval_id for row in rows})
    done = _rate_and_post(rows, intervals)
    posted = [row for row in rows if row.state == GpuHour.State.POSTED]
    GpuHour.objects.bulk_update(posted, ["state", "parts", "cost_picousd", "reason"])
    done.parked = 0  # they were before
    return done, rows[-1].id


def interval_rate(
    interval: ReplicaInterval, book: PriceBook, since: datetime, until: datetime
) -> tuple[HeldPart, ...] | None:
    """A piece of an interval by the prices of its time; None where a part of it has none."""
    return time_rate(
        book, owner_id=interval.organisation_id, sku=interval.model_id,
        began=interval.billed_from, since=since, until=until,
    )  # fmt: skip


def intervals_book(intervals: Iterable[ReplicaInterval]) -> PriceBook:
    """The prices of these intervals' models and owners."""
    rows = list(intervals)
    return price_book(skus={row.model_id for row in rows}, owner_ids={row.organisation_id for row in rows})


def _hours_closed(interval: ReplicaInterval, moment: datetime) -> list[tuple[datetime, datetime]]:
    since, until = interval.billed_until, min(interval.last_seen_at, hour_floor(moment))
    if since is None:
        return []
    if interval.ended_at is None:
        until = min(until, hour_floor(interval.last_seen_at))
    hours = []
    for cut in hours_cut(since, until):
        hours.append(cut)
        if len(hours) == MOST_HOURS:
            break
    return hours


def _name_of(deployment_id: str) -> str:
    found = Deployment.objects.filter(id=deployment_id).values_list("name", flat=True).first()
    return found or deployment_id


def _row(interval: ReplicaInterval, name: str, since: datetime, until: datetime) -> GpuHour:
    return GpuHour(
        interval=interval,
        hour=hour_floor(since),
        organisation_id=interval.organisation_id,
        deployment_id=interval.deployment_id,
        deployment_name=name,
        model_id=interval.model_id,
        held_ms=held_ms(interval.billed_from, since, until),
    )


def _rate_and_post(rows: Sequence[GpuHour], intervals: dict[int, ReplicaInterval]) -> Billed:
    """Set each row's state, parts and cost, and charge those that have a price."""
    book, done, charges = intervals_book(intervals.values()), Billed(), []
    for row in rows:
        interval = intervals[row.interval_id]
        since = max(row.hour, interval.billed_from)
        parts = interval_rate(interval, book, since, min(row.hour + HOUR, interval.last_seen_at))
        if parts is None:
            row.state, row.reason = GpuHour.State.PARKED, NO_PRICE
            done.parked += 1
            continue
        charge = _charge(row, parts)
        row.state, row.reason, row.cost_picousd = GpuHour.State.POSTED, "", charge.cost_picousd
        row.parts = [
            {"version": part.version_id, "ms": part.milliseconds, "price": part.price_picousd}
            for part in parts
        ]
        charges.append(charge)
    gpu_time_post(charges)
    done.posted = len(charges)
    done.cost_picousd = sum(charge.cost_picousd for charge in charges)
    done.owner_ids = {charge.owner_id for charge in charges}
    return done


def _charge(row: GpuHour, parts: tuple[HeldPart, ...]) -> GpuCharge:
    return GpuCharge(
        owner_id=row.organisation_id,
        source_id=row.source_id,
        deployment_id=row.deployment_id,
        label=row.deployment_name,
        used_at=row.hour,
        parts=parts,
    )
