"""The roll-ups are the requests, whatever happened to them and however they are asked for."""

import importlib
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_billing.selectors import balance_get
from kindling_people import make_customer
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.usage.buckets import bucket_starts, local_midnight
from kindling_platform.usage.models import (
    RetiredUsage,
    UsageDay,
    UsageEvent,
    UsageHour,
    UsageSeries,
    UsageSeriesDay,
)
from kindling_platform.usage.pieces import Scope
from kindling_platform.usage.questions import question_of
from kindling_platform.usage.rebuilding import days_rebuild
from kindling_platform.usage.reports import COLUMNS, group_list, series_and_groups, series_list, total_get
from kindling_platform.usage.rollups import SUMS
from kindling_platform.usage.steps import step_floor
from kindling_usage import Books, reckoned, summed

pytestmark = pytest.mark.django_db
# Berlin's and Lord Howe's clocks change in these weeks; the books of the tests know a price since January.
FIRST = datetime(2026, 10, 1, tzinfo=UTC)
MINUTES = 29 * 24 * 60
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Pacific/Kiritimati",
)  # fmt: skip
FINISHES = ("stop", "length", "cancelled", "error")
FILTERS = [{"finish": ["stop"]}, {"adapter_id": [""], "finish": ["error", "stop"]}]
CREDIT = 10**12


@pytest.fixture
def books(db: None) -> Books:
    return Books()


def contents() -> list[set[tuple[object, ...]]]:
    """Everything that is in the roll-ups, but for rows that have come to nothing."""
    keys = ("organisation_id", "model_id", "adapter_id", "key_id", "finish")
    return [
        set(UsageHour.objects.exclude(requests=0).values_list("hour", *keys, *SUMS)),
        set(UsageDay.objects.exclude(requests=0).values_list("day", *keys, *SUMS)),
        set(
            UsageSeries.objects.exclude(requests=0).values_list(
                "organisation_id", "facet", "step", "value", *SUMS
            )
        ),
        set(
            UsageSeriesDay.objects.exclude(requests=0).values_list(
                "organisation_id", "facet", "day", "value", *SUMS
            )
        ),
    ]


def requests_of(books: Books) -> st.SearchStrategy:
    """A request at any minute, of any kind."""

    def made(minute: int, key: int, adapter: str, finish: str, tokens: int, timed: bool):
        at = FIRST + timedelta(minutes=minute, milliseconds=tokens)
        first = {} if timed else {"first_token_ms": None}
        keys = [*(one.id for one in books.keys), "key_gone"]
        return books.record(
            at, key=keys[key], adapter=adapter, finish=finish, completion_tokens=tokens, **first
        )

    return st.builds(
        made, st.integers(0, MINUTES - 1), st.integers(0, 2), st.sampled_from(["", "adp_1"]),
        st.sampled_from(FINISHES), st.integers(0, 900), st.booleans(),
    )  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_they_equal_the_requests_after_late_ones_new_prices_and_failures_of_ours(books: Books, data):
    with transaction.atomic():
        records = data.draw(st.lists(requests_of(books), max_size=14))
        late = data.draw(st.integers(0, len(records)))
        books.book(records[late:])
        if data.draw(st.booleans()):
            books.publish(3, FIRST + timedelta(days=data.draw(st.integers(0, 20))))
            books.rate_anew(FIRST, FIRST + timedelta(days=29))
        books.book(records[:late])
        books.give_back(
            data.draw(st.lists(st.sampled_from(records), max_size=3, unique_by=id)) if records else []
        )
        books.rate_anew(FIRST, FIRST + timedelta(days=29))
        assert platform_prove().findings == []
        moved = contents()
        days_rebuild(first=FIRST.date(), last=FIRST.date() + timedelta(days=28))
        assert contents() == moved
        for _ in range(4):
            ask_and_compare(books, data)
        transaction.set_rollback(True)


def test_the_migration_makes_of_older_requests_what_booking_makes(books: Books):
    moments = [FIRST + timedelta(minutes=97 * number) for number in range(60)]
    books.book(
        [books.record(at, finish=FINISHES[at.minute % 4], adapter="adp_1"[: at.hour % 6]) for at in moments]
    )
    booked = contents()
    assert all(booked)
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM usage_usageday; DELETE FROM usage_usageseries; DELETE FROM usage_usageseriesday"
        )
        for name in ("0005_rollups", "0009_series_by_day"):
            for statement in importlib.import_module(f"kindling_platform.usage.migrations.{name}").FILL:
                cursor.execute(statement)
    assert contents() == booked


def ask_and_compare(books: Books, data) -> None:
    """A span of some zone's days, grouped and filtered somehow, from the roll-ups and from the requests."""
    org, zone = books.customer.org, ZoneInfo(data.draw(st.sampled_from(ZONES)))
    first = FIRST.date() + timedelta(days=data.draw(st.integers(0, 26)))
    last = first + timedelta(days=data.draw(st.integers(1, 25)))
    # A span may begin and end in the middle of a day.
    start, end = (
        step_floor(
            local_midnight(day, zone) + timedelta(minutes=data.draw(st.sampled_from([0, 0, 75, 1170])))
        )
        for day in (first, last)
    )
    by = data.draw(st.sampled_from(["", *COLUMNS]))
    only = data.draw(st.sampled_from([{}, {"key_id": [books.keys[0].id]}, *FILTERS]))
    scope = Scope(org, start, end, only)
    days = bucket_starts(start, end, interval="day", zone=zone)
    assert summed(series_list(scope, days, by), zone=zone, interval="day") == reckoned(
        org, start, end, zone=zone, interval="day", by=by, only=only
    )
    whole = reckoned(org, start, end, zone=zone, by=by, only=only)
    if by:
        assert summed(group_list(scope, by), zone=zone) == whole
        assert series_and_groups(scope, days, by) == (series_list(scope, days), group_list(scope, by))
    else:
        assert summed([total_get(scope)], zone=zone).get((None, ""), ()) == whole.get((None, ""), (0,) * 9)


@pytest.mark.parametrize("zone", ZONES)
def test_a_request_in_each_minute_around_midnight_is_in_the_right_day(books: Books, zone: str):
    midnight = local_midnight(date(2026, 10, 14), ZoneInfo(zone))
    moments = [midnight + timedelta(minutes=minute) for minute in range(-61, 62, 7)]
    books.book([books.record(moment) for moment in moments])
    question = question_of(
        books.customer.org, {"tz": zone, "from": "2026-10-13", "to": "2026-10-15", "interval": "day"}
    )
    before, after = question.rows()
    assert before.requests == sum(moment < midnight for moment in moments)
    assert after.requests == sum(moment >= midnight for moment in moments)


def test_hours_of_the_night_in_which_the_clocks_go_back_are_apart(books: Books):
    twice = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, and an hour later 02:30 again
    books.book([books.record(twice), books.record(twice + timedelta(hours=1))])
    question = question_of(
        books.customer.org,
        {"tz": "Europe/Berlin", "from": "2026-10-25", "to": "2026-10-26", "interval": "hour"},
    )
    assert len(question.starts) == 25
    assert [row.requests for row in question.rows()] == [1, 1]
    assert {f"{row.at.astimezone(question.zone):%H:%M}" for row in question.rows()} == {"02:00"}


def test_tenants_are_apart_and_all_of_it_is_in_the_ledger(books: Books):
    other = make_customer("other")
    books.book([books.record(FIRST + timedelta(hours=hour)) for hour in range(40)])
    books.book([books.record(FIRST, customer=other, key=books.keys[0].id)])
    span = FIRST, FIRST + timedelta(days=3)
    mine, theirs = (total_get(Scope(org, *span)) for org in (books.customer.org, other.org))
    assert (mine.requests, theirs.requests) == (40, 1)
    for customer, total in ((books.customer, mine), (other, theirs)):
        assert CREDIT - balance_get(owner_id=customer.org.id).picousd == total.cost_picousd > 0
    # The key is another tenant's, so whoever made it is nobody here.
    assert [row.group for row in group_list(Scope(other.org, *span), "member")] == [""]
    assert series_list(Scope(other.org, *span, {"key_id": [books.keys[1].id]}), [FIRST]) == []


def test_a_step_that_is_not_committed_moves_nothing(books: Books):
    books.book([books.record(FIRST)])
    before = contents()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        books.book([books.record(FIRST + timedelta(minutes=1))])
        raise ZeroDivisionError
    assert contents() == before


@pytest.mark.parametrize(
    "table", ["usage_usagehour", "usage_usageday", "usage_usageseries", "usage_usageseriesday"]
)
def test_the_proof_finds_a_roll_up_that_is_off_by_one_and_a_rebuild_mends_it(books: Books, table: str):
    day = datetime.now(UTC) - timedelta(days=3)
    books.book([books.record(day), books.record(day + timedelta(seconds=1))])
    assert platform_prove().sound
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET completion_tokens = completion_tokens + 1")
    proof = platform_prove()
    assert {finding["check"] for finding in proof.findings} == {"days' roll-ups are the sums of their rows"}
    assert f"{day:%Y-%m-%d}" in proof.findings[0]["finding"]
    assert days_rebuild(first=day.date(), last=day.date()) == 1
    assert platform_prove().sound


def test_days_whose_requests_were_deleted_are_proved_by_their_sum_alone(books: Books):
    day = datetime.now(UTC) - timedelta(days=3)
    books.book([books.record(day), books.record(day)])
    gone = UsageEvent.objects.first()
    RetiredUsage.objects.create(
        organisation_id=gone.organisation_id, day=day.date(), requests=1, cost_picousd=gone.cost_picousd
    )
    gone.delete()
    assert platform_prove().findings == []


def test_the_proof_finds_a_day_that_the_ledger_says_otherwise_of(books: Books):
    day = datetime.now(UTC) - timedelta(days=3)
    records = [books.record(day), books.record(day - timedelta(days=1))]
    books.book(records)
    # In sum nothing is missing.
    for record, cost in zip(records, (1, -1), strict=True):
        event = UsageEvent.objects.get(request_id=record.request_id)
        UsageEvent.objects.filter(request_id=event.request_id).update(cost_picousd=event.cost_picousd + cost)
    days_rebuild(first=day.date() - timedelta(days=1), last=day.date())
    proof = platform_prove()
    assert {finding["check"] for finding in proof.findings} == {"days' rows are the ledger's usage"}
    assert len(proof.findings) == 2
