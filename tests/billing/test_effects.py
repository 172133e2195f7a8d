"""Drafts of prices over usage that was billed: whom they reach, and that sums over units are sums over events."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.book import Term, Version
from kindling_billing.effects import Effect, Usage, draft, effects_of, rate_quantities
from kindling_billing.rating import Price, Used, usage_rate
from kindling_books_rig import moment

OLD, NEW = Price(10, 5, 40), Price(20, 10, 80)
NOW = moment(3, 10, 0)
DAY = timedelta(days=1)
USAGE = [Usage(owner, "m", {"prompt": 3, "output": 2}, 110) for owner in ("a", "b")]


def effects(drafts: list[Version], versions: list[Version] = (), terms: list[Term] = ()) -> dict[str, int]:
    found = effects_of(USAGE, drafts=drafts, versions=versions, terms=terms)
    return {effect.owner_id: effect.difference_picousd for effect in found}


BOOK = Version("prc_1", "", "m", NOW - DAY, OLD)


def test_a_draft_for_the_book_reaches_everybody_without_a_price_of_their_own():
    new = draft(sku="m", valid_from=NOW, price=NEW)
    assert effects([new], [BOOK]) == {"a": 110, "b": 110}
    own = Version("prc_2", "pln", "m", NOW - DAY, OLD)
    assert effects([new], [BOOK, own], [Term("a", "pln", NOW - DAY, 1)]) == {"a": 0, "b": 110}
    # A plan that does not price this model leaves its owners with the book.
    assert effects([new], [BOOK], [Term("a", "pln", NOW - DAY, 1)]) == {"a": 110, "b": 110}


def test_a_draft_for_a_plan_reaches_those_who_will_be_on_it():
    new = draft(sku="m", plan_id="pln", valid_from=NOW, price=NEW)
    terms = [Term("a", "pln", NOW - DAY, 1), Term("b", "pln", NOW + DAY, 2)]
    assert effects([new], [BOOK], terms) == {"a": 110, "b": 0}


def test_a_draft_of_the_same_moment_holds_and_a_later_version_holds_over_an_earlier_draft():
    assert effects([draft(sku="m", valid_from=BOOK.valid_from, price=NEW)], [BOOK]) == {"a": 110, "b": 110}
    later = draft(sku="m", valid_from=NOW + DAY, price=OLD, plan_id="nobody")
    between = Version("prc_9", "", "m", NOW + DAY / 2, OLD)
    drafts = [draft(sku="m", valid_from=NOW, price=NEW), later]
    assert effects(drafts, [BOOK, between]) == {"a": 0, "b": 0}


def test_what_no_draft_names_costs_what_it_did():
    assert effects([draft(sku="other", valid_from=NOW, price=NEW)], [BOOK]) == {"a": 0, "b": 0}
    assert effects_of([], drafts=[], versions=[], terms=[]) == []
    assert Effect("a", "m", 5, 7).difference_picousd == 2


COUNTS = st.integers(0, 10**7)
PRICES = st.builds(
    Price,
    COUNTS,
    COUNTS,
    COUNTS,
    reasoning=st.none() | COUNTS,
    gpu_ms=COUNTS,
    batch_percent=st.integers(0, 100),
)


@given(PRICES, st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, st.booleans()), max_size=6))
def test_a_sum_over_units_is_the_sum_over_events(
    price: Price, counts: list[tuple[int, int, int, int, int, bool]]
):
    quantities: dict[str, int] = {}
    whole = 0
    for prompt, cached, completion, reasoning, gpu_ms, batch in counts:
        used = Used(prompt, min(cached, prompt), completion, min(reasoning, completion), gpu_ms, batch)
        for line in usage_rate(price, used):
            quantities[line.unit] = quantities.get(line.unit, 0) + line.quantity
            whole += line.amount_picousd
    assert rate_quantities(price, quantities) == whole


@pytest.mark.parametrize("unit", ["prompt", "batch_prompt"])
def test_batch_units_cost_their_part(unit: str):
    price = Price(11, 0, 0, batch_percent=50)
    assert rate_quantities(price, {unit: 4}) == (
        24 if unit.startswith("batch") else 44
    )  # 5.5 is 6, half to even
