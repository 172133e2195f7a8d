"""The price book as a table: what is written is read again, and every row that cannot be taken is named by its line."""

import csv
import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_billing.book import Version
from kindling_billing.rating import Price
from kindling_platform.catalog.price_sheet import COLUMNS, MOST_ROWS, Sheet, sheet_read, sheet_rows
from kindling_platform.common.streamed_csv import csv_line

MODELS = {"mdl_1": "kindling/spark", "mdl_2": "kindling/large"}
PLANS = {"pln_1": "Partner", "pln_2": "=SUM(1)"}
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEADER = "model,input_usd_per_million,cached_input_usd_per_million,output_usd_per_million"


def read(text: str, published: list[Version] = ()) -> Sheet:
    return sheet_read(
        text,
        models={ref: sku for sku, ref in MODELS.items()},
        plans={name: plan for plan, name in PLANS.items()},
        published=published,
        at=NOW,
    )


def write(versions: list[Version]) -> str:
    return "".join(csv_line(row) for row in sheet_rows(versions, models=MODELS, plans={"": "", **PLANS}))


PRICES = st.integers(0, 10**12)
VERSIONS = st.lists(
    st.builds(
        Version,
        st.just("prc"),
        st.sampled_from(["", *PLANS]),
        st.sampled_from(sorted(MODELS)),
        st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
        st.builds(
            Price, PRICES, PRICES, PRICES, reasoning=st.none() | PRICES, gpu_ms=PRICES,
            batch_percent=st.integers(0, 100),
        ),
    ),
    max_size=5, unique_by=lambda one: (one.plan_id, one.sku, one.valid_from),
)  # fmt: skip


@given(VERSIONS)
def test_what_is_written_is_read_again_to_the_unit(versions: list[Version]):
    text = write(versions)
    assert next(csv.reader(io.StringIO(text))) == list(COLUMNS)
    again = read(text)
    found = {(one.plan_id, one.sku, one.valid_from, one.price) for one in again.drafts}
    assert (again.errors, found) == (
        [],
        {(one.plan_id, one.sku, one.valid_from, one.price) for one in versions},
    )
    known = read(text, versions)
    assert (known.drafts, known.known, known.errors) == ([], len(versions), [])


def test_short_rows_of_people_are_enough():
    sheet = read(f"\ufeff{HEADER}\nkindling/spark,$0.10,0.05,0.40\n,,,\n")
    (one,) = sheet.drafts
    assert (one.sku, one.plan_id, one.valid_from) == ("mdl_1", "", NOW)
    assert one.price == Price(100_000, 50_000, 400_000)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("kindling/gone,1,1,1", "no model"), ("kindling/spark,1,1", "3 cells"), ("kindling/spark,-1,1,1", "below zero"),
        ("kindling/spark,1,free,1", "cached_input_usd_per_million: Give dollars"),
        ("kindling/spark,1,1,0.0000001", "six decimals"), ("kindling/spark,1,1,1e999999", "output_usd_per_million"),
        ("kindling/spark,1000001,1,1", "at most one dollar"), ("kindling/spark,NaN,1,1", "Give dollars"),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be_taken_is_named_by_its_line(row: str, message: str):
    sheet = read(f"{HEADER}\nkindling/large,1,1,1\n{row}\n")
    (error,) = sheet.errors
    assert error.line == 3
    assert message in error.message


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("valid_from", "tomorrow", "moment such as"), ("valid_from", "0001-01-01T00:00:00+23:00", "moment such as"),
        ("plan", "Nobody", "no price plan"), ("batch_percent", "101", "from 0 to 100"),
        ("batch_percent", "٥", "from 0 to 100"), ("gpu_picousd_per_ms", "-1", "whole number"),
        ("reasoning_usd_per_million", "x", "reasoning_usd_per_million"),
    ],
)  # fmt: skip
def test_a_cell_that_cannot_be_is_named(column: str, value: str, message: str):
    sheet = read(f"{HEADER},{column}\nkindling/spark,1,1,1,{value}\n")
    assert message in sheet.errors[0].message
    assert sheet.drafts == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks model"), ("model,plan\n", "lacks input"), (f"{HEADER},colour\n", "'colour'"),
        (f"{HEADER},model\n", "twice"), (f'{HEADER}\n"kindling/spark\n', "no CSV"), ("x" * 500_001, "characters"),
        (HEADER + "\nkindling/spark,1,1,1" * MOST_ROWS, "at most"), ("\0", "lacks"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_read_is_refused_whole(text: str, message: str):
    sheet = read(text)
    assert message in sheet.errors[0].message
    assert sheet.drafts == []


def test_two_rows_of_one_model_and_moment_contradict_each_other():
    sheet = read(f"{HEADER}\nkindling/spark,1,1,1\nkindling/spark,2,2,2\n")
    assert (sheet.errors[0].line, "Line 2" in sheet.errors[0].message) == (3, True)
