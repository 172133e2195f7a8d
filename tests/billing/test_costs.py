"""Costs of hours and prices elsewhere: refused where they cannot be, read as books, never edited."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from kindling_billing.costs import (
    cost_book,
    hosted_price_list,
    hosted_price_map,
    hosted_price_set,
    hour_cost_list,
    hour_cost_set,
    quote_of,
)
from kindling_billing.margins import Quote
from kindling_books_rig import USD, moment, refused

pytestmark = pytest.mark.django_db
TODAY = date(2026, 3, 15)


def quote(sku: str = "m", input_picousd: int = 5, **more) -> None:
    values = {"output_picousd": 7, "source": "a provider", "quoted_on": TODAY} | more
    hosted_price_set(sku=sku, input_picousd=input_picousd, **values)


def test_costs_are_read_as_a_book():
    hour_cost_set(picousd_per_hour=2 * USD, valid_from=moment(3, 1), note=" One H100 ", created_by="op")
    hour_cost_set(picousd_per_hour=3 * USD, sku="m", valid_from=moment(3, 5))
    hour_cost_set(picousd_per_hour=0, valid_from=moment(3, 9))
    book = cost_book()
    asked = [("m", 4), ("m", 6), ("other", 8), ("other", 10)]
    assert [book.find(sku, moment(3, day)) for sku, day in asked] == [2 * USD, 3 * USD, 2 * USD, 0]
    assert book.find("m", moment(2, 1)) is None
    assert [row.note for row in hour_cost_list()] == ["", "", "One H100"]


@pytest.mark.parametrize("cost", [-1, 10_000 * USD + 1])
def test_a_cost_that_cannot_be_is_refused(cost: int):
    with refused("amount_invalid"):
        hour_cost_set(picousd_per_hour=cost)


def test_the_newest_quote_holds_and_the_others_stay():
    quote(input_picousd=5)
    quote(input_picousd=4, cached_input_picousd=1)
    quote("n", 9)
    found = hosted_price_map(skus=["m", "n", "none"])
    assert {sku: quote_of(row) for sku, row in found.items()} == {"m": Quote(4, 1, 7), "n": Quote(9, None, 7)}
    assert [row.input_picousd for row in hosted_price_list(sku="m")] == [4, 5]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"input_picousd": -1}, "amount_invalid"), ({"output_picousd": USD + 1}, "amount_invalid"),
        ({"cached_input_picousd": -1}, "amount_invalid"), ({"source": "  "}, "source_missing"),
        ({"quoted_on": (datetime.now(UTC) + timedelta(days=3)).date()}, "date_invalid"),
    ],
)  # fmt: skip
def test_a_quote_that_cannot_be_is_refused(changes: dict, code: str):
    with refused(code):
        quote(**changes)


@pytest.mark.parametrize("table", ["billing_hourcost", "billing_hostedprice"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET created_by = 'x'", "DELETE FROM {}"])
def test_what_was_entered_stays(table: str, statement: str):
    hour_cost_set(picousd_per_hour=1)
    quote()
    with pytest.raises(DatabaseError, match="refused"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement.format(table))
