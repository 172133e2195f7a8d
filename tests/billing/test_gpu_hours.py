"""GPU time: cut at hours and at changes of price, its pieces sum to the whole, to the millisecond. All pure."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.book import PriceBook, Term, Version
from kindling_billing.gpu_hours import HOUR, hour_floor, hours_cut, parts_cost_picousd, time_rate
from kindling_billing.rating import GPU, Line, Price

BEGAN = datetime(2026, 3, 10, 9, 15, 0, 123_456, tzinfo=UTC)
EVER = datetime(2026, 1, 1, tzinfo=UTC)
OWNER, SKU, PLAN = "org_a", "mdl_a", "pln_a"


def version(id_: str, since: datetime, gpu_ms: int, plan: str = "") -> Version:
    return Version(id_, plan, SKU, since, Price(1, 1, 1, gpu_ms=gpu_ms))


def rate(book: PriceBook, until: datetime, since: datetime = BEGAN, owner: str = OWNER):
    return time_rate(book, owner_id=owner, sku=SKU, began=BEGAN, since=since, until=until)


MICROSECONDS = st.integers(0, 12 * 3_600_000_000)
MOMENTS = MICROSECONDS.map(lambda us: BEGAN + timedelta(microseconds=us))


@st.composite
def books(draw) -> PriceBook:
    """A price from the beginning on, changes of it, a plan with prices of its own, and terms on and off it."""
    changes = draw(
        st.lists(st.tuples(MOMENTS, st.integers(1, 10**9), st.sampled_from(["", PLAN])), max_size=6)
    )
    versions = [version("v", EVER, draw(st.integers(1, 10**9)))]
    versions += [version(f"v{place}", at, price, plan) for place, (at, price, plan) in enumerate(changes)]
    terms = draw(st.lists(st.tuples(MOMENTS, st.sampled_from(["", PLAN])), max_size=3))
    return PriceBook(versions, [Term(OWNER, plan, at, place) for place, (at, plan) in enumerate(terms)])


@given(books(), MOMENTS, st.lists(MOMENTS, max_size=5))
def test_wherever_it_is_cut_the_pieces_are_the_whole(book: PriceBook, until: datetime, cuts: list[datetime]):
    whole = rate(book, until)
    hours = [end for _, end in hours_cut(BEGAN, until)]
    edges = sorted({BEGAN, until, *hours, *(cut for cut in cuts if cut < until)})
    pieces = [rate(book, end, since) for since, end in pairwise(edges)]
    assert whole is not None
    assert sum(part.milliseconds for part in whole) == (until - BEGAN) // timedelta(milliseconds=1)
    by_version: dict[str, int] = {}
    for part in (part for piece in pieces if piece for part in piece):
        by_version[part.version_id] = by_version.get(part.version_id, 0) + part.milliseconds
    assert by_version == {part.version_id: part.milliseconds for part in whole}
    assert sum(parts_cost_picousd(piece or ()) for piece in pieces) == parts_cost_picousd(whole)


@given(books(), MOMENTS)
def test_every_millisecond_costs_the_price_of_its_time(book: PriceBook, until: datetime):
    """Beside it, counted the slow way: each change of the book is looked up by itself."""
    edges = sorted({BEGAN, until, *(at for at in book.changes(OWNER, SKU) if BEGAN < at < until)})
    expected = 0
    for since, end in pairwise(edges):
        found = book.find(OWNER, SKU, since)
        assert found is not None
        ms = (end - BEGAN) // timedelta(milliseconds=1) - (since - BEGAN) // timedelta(milliseconds=1)
        expected += ms * found.price.gpu_ms
    assert parts_cost_picousd(rate(book, until) or ()) == expected


def test_an_hour_is_cut_where_the_price_changes():
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    book = PriceBook([version("old", EVER, 10), version("new", noon + timedelta(minutes=20), 30)])
    parts = time_rate(book, owner_id=OWNER, sku=SKU, began=noon, since=noon, until=noon + HOUR)
    assert parts is not None
    assert [part.line for part in parts] == [Line(GPU, 1_200_000, 10), Line(GPU, 2_400_000, 30)]


def test_a_plan_holds_for_who_is_on_it_from_its_moment_on():
    later = BEGAN + HOUR
    book = PriceBook(
        [version("book", EVER, 10), version("plan", EVER, 2, PLAN)], [Term(OWNER, PLAN, later, 1)]
    )
    ours, others = rate(book, later + HOUR), rate(book, later + HOUR, owner="org_b")
    assert ours is not None
    assert others is not None
    assert [(part.version_id, part.milliseconds) for part in ours] == [
        ("book", 3_600_000),
        ("plan", 3_600_000),
    ]
    assert [(part.version_id, part.milliseconds) for part in others] == [("book", 7_200_000)]


def test_a_gap_and_a_price_of_nothing_are_no_price():
    later = BEGAN + HOUR
    assert rate(PriceBook([]), later) is None
    assert rate(PriceBook([version("late", BEGAN + timedelta(minutes=1), 5)]), later) is None
    assert rate(PriceBook([version("v", EVER, 0)]), later) is None
    assert (
        rate(PriceBook([version("v", EVER, 5), version("w", BEGAN + timedelta(minutes=1), 0)]), later) is None
    )
    assert rate(PriceBook([]), BEGAN) == ()


@given(MOMENTS, MOMENTS)
def test_hours_follow_on_each_other_and_lie_in_one_hour_each(since: datetime, until: datetime):
    hours = list(hours_cut(since, until))
    assert bool(hours) == (since < until)
    if hours:
        assert (hours[0][0], hours[-1][1]) == (since, until)
        assert all(first[1] == second[0] == hour_floor(second[0]) for first, second in pairwise(hours))
        assert all(hour_floor(start) + HOUR >= end > start for start, end in hours)
