"""Days, hours and months of time zones, and the steps of UTC that they are made of."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.buckets import bucket_starts, local_midnight, span_before, zone_get, zone_names
from kindling_platform.usage.steps import day_ceil, step_ceil, step_floor

BERLIN = ZoneInfo("Europe/Berlin")


def days(zone: ZoneInfo, first: date, count: int) -> list[datetime]:
    start, end = local_midnight(first, zone), local_midnight(first + timedelta(days=count), zone)
    return bucket_starts(start, end, interval="day", zone=zone)


@pytest.mark.parametrize(
    ("zone", "first", "hours"),
    [
        ("UTC", date(2026, 10, 24), [24, 24]),
        ("Europe/Berlin", date(2026, 10, 24), [24, 25]),
        ("Europe/Berlin", date(2026, 3, 28), [24, 23]),
        ("America/New_York", date(2026, 10, 31), [24, 25]),
        ("Australia/Lord_Howe", date(2026, 10, 3), [24, 23.5]),
        ("Asia/Kathmandu", date(2026, 5, 1), [24, 24]),
        # Here the clocks skip midnight itself.
        ("Africa/Cairo", date(2026, 4, 23), [24, 23]),
    ],
)
def test_a_day_has_as_many_hours_as_its_clocks_show(zone: str, first: date, hours: list[float]):
    starts = days(ZoneInfo(zone), first, 3)
    lengths = [(after - before).total_seconds() / 3600 for before, after in pairwise(starts)]
    assert lengths == hours


def test_days_of_every_zone_begin_where_a_step_begins():
    moment = date(2025, 1, 1)
    looked_at = [moment + timedelta(days=step) for step in range(0, 4000, 9)]
    assert len(zone_names()) > 300
    for name in zone_names():
        zone = ZoneInfo(name)
        for day in looked_at:
            midnight = local_midnight(day, zone)
            assert step_floor(midnight) == midnight, (name, day)


def test_days_that_no_step_begins_with_are_refused():
    zone = ZoneInfo("Africa/Monrovia")  # 44 minutes behind until 1972
    with pytest.raises(KindlingError) as refused:
        days(zone, date(1971, 5, 1), 3)
    assert refused.value.code == "time_zone_unsupported"


@pytest.mark.parametrize(
    ("moment", "floor", "ceil"),
    [
        ("18:00", "18:00", "18:00"),
        ("18:10", "18:00", "18:15"),
        ("18:15", "18:15", "18:15"),
        ("18:29", "18:15", "18:30"),
        ("18:59", "18:30", "19:00"),
        ("12:59", "12:00", "13:00"),
        ("23:01", "23:00", "00:00"),
    ],
)
def test_steps_are_hours_cut_where_some_day_begins(moment: str, floor: str, ceil: str):
    at = datetime.fromisoformat(f"2026-05-01T{moment}+00:00")
    assert (f"{step_floor(at):%H:%M}", f"{step_ceil(at):%H:%M}") == (floor, ceil)
    assert step_ceil(at) >= at >= step_floor(at)
    assert day_ceil(at) == datetime(2026, 5, 2, tzinfo=UTC)


def test_hours_and_months():
    start = datetime(2026, 5, 1, 18, 30, tzinfo=UTC)
    hours = bucket_starts(start, start + timedelta(hours=2), interval="hour", zone=ZoneInfo("Asia/Kolkata"))
    assert [f"{moment:%H:%M}" for moment in hours] == ["18:30", "19:00", "20:00"]
    months = bucket_starts(
        local_midnight(date(2026, 9, 15), BERLIN),
        local_midnight(date(2026, 12, 1), BERLIN),
        interval="month",
        zone=BERLIN,
    )
    assert [f"{moment.astimezone(BERLIN):%m-%d %H}" for moment in months] == [
        "09-15 00",
        "10-01 00",
        "11-01 00",
    ]


@pytest.mark.parametrize(
    ("start", "end", "before"),
    [
        # Whole months are compared with the months before, however long.
        ("2026-10-01", "2026-11-01", ("2026-09-01", "2026-10-01")),
        ("2026-03-01", "2026-05-01", ("2026-01-01", "2026-03-01")),
        ("2026-10-20", "2026-10-27", ("2026-10-13", "2026-10-20")),
        # A span that is under way: the same hours of as many days earlier.
        ("2026-10-20", "2026-10-26T10:00", ("2026-10-13", "2026-10-19T10:00")),
        ("2026-10-20T12:00", "2026-10-20T18:00", ("2026-10-19T12:00", "2026-10-19T18:00")),
    ],
)
def test_the_span_before_is_as_long_by_the_calendar(start: str, end: str, before: tuple[str, str]):
    moments = [datetime.fromisoformat(text).replace(tzinfo=BERLIN) for text in (start, end)]
    found = span_before(*(moment.astimezone(UTC) for moment in moments), BERLIN)
    assert [moment.astimezone(BERLIN).replace(tzinfo=None) for moment in found] == [
        datetime.fromisoformat(text) for text in before
    ]


@pytest.mark.parametrize("name", ["", "Mars/Base", "europe/berlin", "../../etc/passwd", "UTC\0", "localtime"])
def test_what_is_no_zone_is_refused(name: str):
    with pytest.raises(KindlingError) as refused:
        zone_get(name)
    assert refused.value.code == "time_zone_unknown"


def test_more_rows_than_a_page_has_are_refused():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(KindlingError) as refused:
        bucket_starts(start, start + timedelta(days=40), interval="hour", zone=zone_get("UTC"))
    assert refused.value.code == "span_too_long"
    with pytest.raises(KindlingError) as refused:
        bucket_starts(start, start + timedelta(days=1), interval="week", zone=zone_get("UTC"))
    assert refused.value.code == "interval_unknown"
