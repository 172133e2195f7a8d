"""Days, hours and months of a time zone, as moments of UTC that steps of the roll-ups begin at."""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.steps import HOUR, step_ceil, step_floor

INTERVALS = ("hour", "day", "month")
MAX_BUCKETS = 800
DAY = timedelta(days=1)


def zone_get(name: str) -> ZoneInfo:
    """A time zone by its name in the IANA database.

    Raises:
        KindlingError: `time_zone_unknown`.
    """
    if name not in zone_names():
        text = "tz must be the name of a time zone, such as UTC, Europe/Berlin or America/New_York."
        raise KindlingError("time_zone_unknown", text, param="tz")
    return ZoneInfo(name)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The zones that this machine knows; UTC is always among them."""
    return frozenset(available_timezones() - {"localtime", "Factory"}) | {"UTC"}


def local_midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins in a zone; where the clocks skip midnight, the moment they do so."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


@lru_cache(maxsize=64)
def bucket_starts(start: datetime, end: datetime, *, interval: str, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The beginnings of the hours, days or months from `start` up to `end`; the first is `start` itself.

    Days and months are the zone's. Hours are UTC's, which are the zone's too unless its clocks differ by less than
    an hour.

    Raises:
        KindlingError: `interval_unknown`, `span_too_long`, `time_zone_unsupported`.
    """
    if interval not in INTERVALS:
        raise KindlingError("interval_unknown", "interval must be hour, day or month.", param="interval")
    starts = [start]
    while (following := _next(starts[-1], interval, zone)) < end:
        starts.append(following)
        if len(starts) > MAX_BUCKETS:
            text = f"That would be more than {MAX_BUCKETS} rows of time: ask for a longer interval or a shorter span."
            raise KindlingError("span_too_long", text, param="interval")
    for moment in starts[1:] if interval != "hour" else ():
        if step_floor(moment) != moment:
            text = f"Usage is not kept by the days that {zone.key} had then; ask for UTC."
            raise KindlingError("time_zone_unsupported", text, param="tz")
    return tuple(starts)


def span_before(start: datetime, end: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The span to compare with: as many whole days of the zone earlier; whole months become the months before."""
    first, behind = start.astimezone(zone), end.astimezone(zone)
    if _begins_month(first) and _begins_month(behind):
        months = (behind.year - first.year) * 12 + behind.month - first.month
        index = first.year * 12 + first.month - 1 - months
        return local_midnight(date(index // 12, index % 12 + 1, 1), zone), start
    days = max(1, -((first.replace(tzinfo=None) - behind.replace(tzinfo=None)) // DAY))
    return step_floor(_earlier(first, days)), min(start, step_ceil(_earlier(behind, days)))


def _next(moment: datetime, interval: str, zone: ZoneInfo) -> datetime:
    if interval == "hour":
        return moment.replace(minute=0) + HOUR
    day = moment.astimezone(zone).date()
    if interval == "day":
        return local_midnight(day + DAY, zone)
    return local_midnight((day.replace(day=1) + timedelta(days=31)).replace(day=1), zone)


def _begins_month(local: datetime) -> bool:
    return (local.day, local.hour, local.minute) == (1, 0, 0)


def _earlier(local: datetime, days: int) -> datetime:
    return (local - timedelta(days=days)).astimezone(UTC)
