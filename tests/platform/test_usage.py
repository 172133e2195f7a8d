"""Sums, lists and totals of usage, over the selectors and over the API."""

from datetime import UTC, datetime, timedelta

import pytest

from kindling_billing.selectors import price_current
from kindling_people import Customer, make_model, make_record
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.selectors import (
    first_call_at,
    usage_by,
    usage_by_organisation,
    usage_event_get,
    usage_totals,
)
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
START = datetime(2026, 9, 1, tzinfo=UTC)
HOURS = 50


@pytest.fixture
def used(operator: Customer, ada: Customer) -> int:
    """Fifty requests of ada's, one an hour from START on, every fifth a failure; gives their cost."""
    model = make_model(operator)
    price = price_current(sku=model.id)
    assert price
    records = []
    for hour in range(HOURS):
        finished_ms = int((START + timedelta(hours=hour, minutes=30)).timestamp() * 1000)
        finish = "error" if hour % 5 == 0 else "stop"
        records.append(
            make_record(
                ada.org.id, model, price, finished_ms=finished_ms, completion_tokens=hour, finish=finish
            )
        )
    result = usage_ingest(source="r", log_id="l", after=0, records=records, next_offset=HOURS)
    assert result.inserted == HOURS
    return result.cost_picousd


def span(hours: int = HOURS) -> dict[str, datetime]:
    return {"start": START, "end": START + timedelta(hours=hours)}


@pytest.mark.parametrize(
    ("group", "rows"), [("day", 3), ("hour", 50), ("model", 1), ("key", 1), ("adapter", 1)]
)
def test_every_grouping_sums_to_the_same(ada: Customer, used: int, group: str, rows: int):
    sums = usage_by(org=ada.org, group=group, **span())
    assert len(sums) == rows
    assert sum(row.cost_picousd for row in sums) == used
    assert sum(row.requests for row in sums) == HOURS
    assert sum(row.failed for row in sums) == 10
    assert sum(row.completion_tokens for row in sums) == sum(range(HOURS))
    total = usage_totals(org=ada.org, **span())
    assert (total.requests, total.cost_picousd) == (HOURS, used)


def test_a_span_holds_its_first_hour_and_not_its_last(ada: Customer, used: int):
    assert usage_totals(org=ada.org, **span(10)).requests == 10
    assert (
        usage_totals(org=ada.org, start=START + timedelta(hours=49), end=START + timedelta(hours=90)).requests
        == 1
    )


def test_an_unknown_grouping_is_refused(ada: Customer):
    with pytest.raises(KindlingError) as refused:
        usage_by(org=ada.org, group="colour", **span())
    assert refused.value.code == "group_unknown"


def test_others_see_none_of_it(ada: Customer, bob: Customer, used: int):
    assert usage_totals(org=bob.org, **span()).requests == 0
    assert first_call_at(org=bob.org) is None
    assert first_call_at(org=ada.org) == START + timedelta(hours=1, minutes=30)
    assert set(usage_by_organisation(**span())) == {ada.org.id}


@pytest.mark.parametrize("request_id", ["", "x", "0" * 32, "ü"])
def test_a_request_that_is_not_there_is_404(ada: Customer, request_id: str):
    with pytest.raises(KindlingError) as refused:
        usage_event_get(org=ada.org, request_id=request_id)
    assert refused.value.status == 404


def test_the_api_sums_labels_and_pages(ada: Customer, used: int):
    client = ada.client()
    query = {"group": "model", "start": "2026-09-01", "end": "2026-09-10"}
    body = client.get("/api/v1/usage", query).json()
    assert body["data"][0]["label"] == "kindling/spark"
    assert body["total"]["cost_picousd"] == str(used)
    seen, cursor = [], ""
    while True:
        page = client.get("/api/v1/usage/requests", {**query, "limit": 20, "cursor": cursor}).json()
        seen += [row["request_id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == HOURS
    one = client.get(f"/api/v1/usage/requests/{seen[0]}").json()
    assert (one["model"], one["cost_picousd"].isdigit()) == ("kindling/spark", True)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"start": "yesterday"}, "time_invalid"),
        ({"start": "0001-01-01"}, "time_invalid"),
        ({"end": "9999-12-31T23:59:59+14:00"}, "time_invalid"),
        ({"start": "2026-02-01", "end": "2026-01-01"}, "span_invalid"),
        ({"start": "2020-01-01", "end": "2026-01-01"}, "span_invalid"),
        ({"group": "colour"}, "group_unknown"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(ada: Customer, query: dict, code: str):
    reply = ada.client().get("/api/v1/usage", query)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, code)


def test_the_balance_and_its_lines_agree(ada: Customer, used: int):
    client = ada.client()
    balance = client.call("get", "balance").json()
    lines, cursor = [], ""
    while True:
        page = client.get("/api/v1/ledger", {"limit": 20, "cursor": cursor}).json()
        lines += page["data"]
        cursor = page["next_cursor"] or ""
        if not cursor:
            break
    assert len(lines) == HOURS + 1
    assert (
        sum(int(line["amount_picousd"]) for line in lines) == int(balance["balance_picousd"]) == 10**12 - used
    )
    assert balance["balance_usd"].startswith("0.99")
    assert lines[-1]["memo"] == "Starting credit"


@pytest.mark.parametrize(
    "path", ["models", "adapters", "deployments", "keys", "ledger", "usage", "usage/requests"]
)
def test_lists_take_few_queries(ada: Customer, used: int, path: str, django_assert_max_num_queries):
    client = ada.client()
    with django_assert_max_num_queries(8):
        assert client.get(f"/api/v1/{path}").status_code == 200
