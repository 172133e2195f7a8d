"""The price book: which version holds for whom and when, gaps among them, and lines that explain a cost."""

from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.book import PriceBook, Term, Version
from kindling_billing.money import round_half_even
from kindling_billing.rating import Price, Used, usage_rate
from kindling_books_rig import PRICE, moment

DAY = timedelta(days=1)


def version(id_: str, day: int, plan: str = "") -> Version:
    return Version(id_, plan, "mdl_a", moment(3, day, 0), PRICE)


BOOK = PriceBook(
    [version("b", 10), version("a", 5), version("c", 10), version("p", 12, "pln")],
    [Term("org_a", "pln", moment(3, 11, 0), 1), Term("org_a", "", moment(3, 20, 0), 2)],
)


@pytest.mark.parametrize(
    ("owner", "day", "found"),
    [
        ("org_b", 4, None), ("org_b", 5, "a"), ("org_b", 9, "a"), ("org_b", 10, "c"), ("org_b", 31, "c"),
        ("org_a", 11, "c"), ("org_a", 12, "p"), ("org_a", 19, "p"), ("org_a", 20, "c"),
    ],
)  # fmt: skip
def test_the_version_of_the_moment_holds(owner: str, day: int, found: str | None):
    seen = BOOK.find(owner, "mdl_a", moment(3, day, 0))
    assert (seen.id if seen else None) == found


def test_a_version_holds_from_its_very_moment_on():
    at = moment(3, 5, 0)
    assert BOOK.find("org_b", "mdl_a", at - timedelta(microseconds=1)) is None
    assert BOOK.find("org_b", "mdl_b", at) is None
    assert PriceBook([]).find("org_b", "mdl_a", at) is None


COUNTS = st.integers(0, 10**9)
PRICES = st.builds(
    Price,
    COUNTS,
    COUNTS,
    COUNTS,
    reasoning=st.none() | COUNTS,
    gpu_ms=COUNTS,
    batch_percent=st.integers(0, 100),
)


@given(PRICES, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans())
def test_lines_are_quantity_times_price_and_nothing_is_left_out(
    price, fresh, cached, thought, said, gpu, batch
):
    used = Used(fresh + cached, cached, thought + said, thought, gpu, batch)
    amounts = {
        "prompt": (fresh, price.input),
        "cached": (cached, price.cached_input),
        "reasoning": (thought, price.output if price.reasoning is None else price.reasoning),
        "output": (said, price.output),
        "gpu_ms": (gpu, price.gpu_ms),
    }
    if batch:
        percent = Fraction(price.batch_percent, 100)
        amounts = {f"batch_{unit}": (n, round(full * percent)) for unit, (n, full) in amounts.items()}
    expected = [(unit, n, full) for unit, (n, full) in amounts.items() if n]
    assert [tuple(line) for line in usage_rate(price, used)] == expected


@given(PRICES, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_a_gateway_holds_of_batch_work_is_what_the_books_charge(
    price, fresh, cached, thought, said, gpu
):
    used = Used(fresh + cached, cached, thought + said, thought, gpu)
    held = sum(line.amount_picousd for line in usage_rate(price.for_batch(), used))
    assert held == sum(line.amount_picousd for line in usage_rate(price, used._replace(batch=True)))


@pytest.mark.parametrize(
    "used",
    [
        Used(-1),
        Used(1, 2),
        Used(completion_tokens=-1),
        Used(gpu_ms=-1),
        Used(completion_tokens=1, reasoning_tokens=2),
    ],
)
def test_counts_that_cannot_be_are_refused(used: Used):
    with pytest.raises(ValueError, match=r"token|time"):
        usage_rate(PRICE, used)


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**12))
def test_rounding_is_half_to_even(amount: int, unit: int):
    assert round_half_even(amount, unit) == round(Fraction(amount, unit))


@pytest.mark.parametrize(("amount", "cents"), [(5, 0), (15, 2), (25, 2), (-5, 0), (-15, -2), (26, 3)])
def test_ties_go_to_the_even_one(amount: int, cents: int):
    assert round_half_even(amount, 10) == cents
