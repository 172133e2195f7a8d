"""Margins: running time cut at midnights and at changes of cost, exact sums, and figures beside a quote. All pure."""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.margins import MICROS_PER_HOUR, CostBook, Margin, Quote, Rate, Run, running_days

DOLLAR = 10**12
MARCH, APRIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(day: int, hour: float = 0) -> datetime:
    return datetime(2026, 3, day, tzinfo=UTC) + hour * HOUR


def days(runs: list[Run], rates: list[Rate]) -> dict[tuple[str, date], Margin]:
    return running_days(runs, CostBook(rates), start=MARCH, end=APRIL)


def test_a_run_over_midnight_belongs_to_both_days():
    found = days([Run("m", at(3, 22), at(4, 1))], [Rate("", at(1), 2 * DOLLAR)])
    assert found["m", date(2026, 3, 3)] == Margin(running_us=2 * MICROS_PER_HOUR, cost_picousd=4 * DOLLAR)
    assert found["m", date(2026, 3, 4)] == Margin(running_us=MICROS_PER_HOUR, cost_picousd=2 * DOLLAR)


def test_a_cost_holds_from_its_moment_on_and_a_models_own_comes_first():
    rates = [Rate("", at(1), DOLLAR), Rate("m", at(3, 12), 3 * DOLLAR), Rate("", at(3, 18), 9 * DOLLAR)]
    found = days([Run("m", at(3, 10), at(3, 20)), Run("other", at(3, 17), at(3, 19))], rates)
    assert found["m", date(2026, 3, 3)].cost_picousd == (2 * 1 + 8 * 3) * DOLLAR
    assert found["other", date(2026, 3, 3)].cost_picousd == (1 + 9) * DOLLAR


def test_of_two_costs_of_one_moment_the_later_entered_holds():
    rates = [Rate("", at(1), DOLLAR), Rate("", at(1), 2 * DOLLAR)]
    assert CostBook(rates).find("m", at(2)) == 2 * DOLLAR


def test_time_without_a_cost_is_named_and_costs_nothing():
    found = days([Run("m", at(3, 0), at(3, 4))], [Rate("", at(3, 3), DOLLAR)])
    day = found["m", date(2026, 3, 3)]
    assert (day.running_us, day.unpriced_us) == (4 * MICROS_PER_HOUR, 3 * MICROS_PER_HOUR)
    assert (day.cost_picousd, day.is_priced) == (DOLLAR, False)


def test_what_lies_outside_the_span_is_cut_off():
    runs = [
        Run("m", MARCH - HOUR, MARCH + HOUR),
        Run("m", APRIL - HOUR, APRIL + HOUR),
        Run("m", APRIL, APRIL + HOUR),
    ]
    assert sum((one.running_us for one in days(runs, []).values()), 0) == 2 * MICROS_PER_HOUR


MOMENTS = st.integers(0, 40 * 86_400 * 10**6).map(
    lambda us: MARCH - 4 * 24 * HOUR + timedelta(microseconds=us)
)
RUNS = st.lists(
    st.builds(lambda sku, a, b: Run(sku, min(a, b), max(a, b)), st.sampled_from("mn"), MOMENTS, MOMENTS),
    max_size=8,
)
RATES = st.lists(
    st.builds(Rate, st.sampled_from(["", "m"]), MOMENTS, st.integers(0, 100 * DOLLAR)), max_size=6
)


@given(RUNS, RATES)
def test_no_time_is_lost_or_counted_twice_and_a_day_is_rounded_once_for_each_cost(
    runs: list[Run], rates: list[Rate]
):
    found = days(runs, rates)
    clipped = [min(run.end, APRIL) - max(run.start, MARCH) for run in runs]
    whole = sum((one for one in clipped if one > timedelta(0)), timedelta(0))
    assert sum(one.running_us for one in found.values()) == whole // timedelta(microseconds=1)
    book = CostBook(rates)
    for (sku, day), margin in found.items():
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = begin + 24 * HOUR
        marks = sorted({begin, end, *(change for change in book.changes(sku) if begin < change < end)})
        exact = Fraction(0)
        for since, until in pairwise(marks):
            held = sum(
                max(timedelta(0), min(run.end, until) - max(run.start, since)) // timedelta(microseconds=1)
                for run in runs
                if run.sku == sku
            )
            exact += Fraction(held * (book.find(sku, since) or 0), MICROS_PER_HOUR)
        assert abs(margin.cost_picousd - exact) <= Fraction(len(marks) - 1, 2)


WEEK = Margin(
    revenue_picousd=50 * DOLLAR, prompt_tokens=60_000_000, cached_tokens=20_000_000, completion_tokens=40_000_000,
    running_us=100 * MICROS_PER_HOUR, cost_picousd=42 * DOLLAR, busy_us=25 * MICROS_PER_HOUR,
    looked_us=100 * MICROS_PER_HOUR,
)  # fmt: skip


def test_figures_of_a_week():
    assert WEEK.tokens == 100_000_000
    assert (WEEK.margin_picousd, WEEK.margin_permille) == (8 * DOLLAR, 160)
    assert WEEK.per_million_picousd == 42 * DOLLAR // 100
    assert (WEEK.busy_permille, WEEK.tokens_per_hour) == (250, 1_000_000)


@pytest.mark.parametrize(("cached", "hosted"), [(None, 60 + 80), (0, 40 + 80), (500_000, 40 + 10 + 80)])
def test_a_quote_is_reckoned_over_the_same_tokens(cached: int | None, hosted: int):
    quote = Quote(1_000_000, cached, 2_000_000)
    assert WEEK.hosted_picousd(quote) == hosted * DOLLAR
    assert WEEK.hosted_per_million_picousd(quote) == hosted * DOLLAR // 100


def test_the_even_point_is_where_an_hour_costs_what_its_tokens_cost_elsewhere():
    quote = Quote(1_000_000, None, 2_000_000)  # 1.4 millionths of a dollar a token of this mixture
    even = WEEK.even_tokens_per_hour(quote)
    assert even == 300_000  # $0.42 an hour
    assert WEEK.even_tokens_per_hour(Quote(0, None, 0)) is None


def test_nothing_is_made_up_where_nothing_is_known():
    empty = Margin()
    assert (empty.margin_permille, empty.busy_permille, empty.per_million_picousd, empty.tokens_per_hour) == (
        None,
    ) * 4
    assert empty.hosted_per_million_picousd(Quote(1, None, 1)) is None
    assert Margin(prompt_tokens=5).per_million_picousd is None
    assert Margin(prompt_tokens=5, running_us=10, unpriced_us=1, cost_picousd=3).per_million_picousd is None
    assert Margin(prompt_tokens=5, running_us=10).per_million_picousd == 0


def test_sums_are_field_by_field():
    assert WEEK + Margin() == WEEK
    assert (WEEK + WEEK).cost_picousd == 84 * DOLLAR
