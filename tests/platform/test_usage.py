"""Sums, lists and totals of usage, over the selectors and over the API."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest

from kindling_billing.selectors import balance_get, price_current
from kindling_people import Customer, make_model, make_record
from kindling_platform.accounts.models import User
from kindling_platform.api.usage_shapes import UsageShape
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.questions import question_of
from kindling_platform.usage.reports import COLUMNS
from kindling_platform.usage.selectors import (
    first_call_at,
    usage_by_organisation,
    usage_event_get,
    usage_totals,
)
from kindling_platform.usage.services import usage_ingest
from kindling_platform.usage.steps import step_ceil
from kindling_usage import Books

pytestmark = pytest.mark.django_db
START = datetime(2026, 9, 1, tzinfo=UTC)
HOURS = 50
SPAN = {"from": "2026-09-01", "to": "2026-09-10"}
CREDIT = 10**12


@pytest.fixture(scope="module")
def used(kept_operator: Customer, kept_ada: Customer) -> int:
    """Fifty requests of ada's, one an hour from START on, every fifth a failure; gives their cost."""
    model, ada = make_model(kept_operator), kept_ada
    price = price_current(sku=model.id)
    assert price
    records = []
    for hour in range(HOURS):
        finished_ms = int((START + timedelta(hours=hour, minutes=30)).timestamp() * 1000)
        finish = "error" if hour % 5 == 0 else "stop"
        times = {
            "started_ms": finished_ms - 400,
            "first_token_ms": finished_ms - 300,
            "finished_ms": finished_ms,
        }
        records.append(make_record(ada.org.id, model, price, completion_tokens=hour, finish=finish, **times))
    result = usage_ingest(source="r", log_id="l", after=0, records=records, next_offset=HOURS)
    assert result.inserted == HOURS
    return result.cost_picousd


def span(hours: int = HOURS) -> dict[str, datetime]:
    return {"start": START, "end": START + timedelta(hours=hours)}


def ask(customer: Customer, path: str = "usage", **query: str):
    return customer.client().get(f"/api/v1/{path}", SPAN | query)


def rows_of(reply) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(reply).decode(), newline="")))


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ({}, 1),
        ({"interval": "day"}, 3),
        ({"interval": "hour"}, 50),
        ({"interval": "month"}, 1),
        ({"interval": "day", "tz": "America/New_York"}, 3),
        ({"interval": "day", "group_by": "status"}, 5),
        *(({"group_by": by}, 2 if by == "status" else 1) for by in COLUMNS),
    ],
)
def test_every_grouping_sums_to_the_ledger(ada: Customer, used: int, query: dict[str, str], rows: int):
    question = question_of(ada.org, {"from": "2026-08-31", "to": "2026-09-10"} | query)
    sums = question.rows()
    assert len(sums) == rows
    spent = CREDIT - balance_get(owner_id=ada.org.id).picousd
    assert sum(row.cost_picousd for row in sums) == used == spent
    assert sum(row.requests for row in sums) == HOURS
    assert sum(row.failed for row in sums) == 10
    assert sum(row.completion_tokens for row in sums) == sum(range(HOURS))
    assert {(row.mean_first_token_ms, row.mean_duration_ms) for row in sums} == {(100, 400)}
    total = question.total()
    assert (total.requests, total.cost_picousd) == (HOURS, used)


def test_a_span_holds_its_first_hour_and_not_its_last(ada: Customer, used: int):
    assert usage_totals(org=ada.org, **span(10)).requests == 10
    assert (
        usage_totals(org=ada.org, start=START + timedelta(hours=49), end=START + timedelta(hours=90)).requests
        == 1
    )


def test_sums_are_asked_for_by_whole_steps_and_single_requests_by_any_moment(ada: Customer, used: int):
    whole = {"from": "2026-08-30T20:00:00Z", "to": "2026-09-01T00:00:00+05:30"}
    assert ask(ada, **whole).json()["end"] == "2026-08-31T18:30:00Z"
    for behind_s in (-400, -1, 0, 1):
        moment = now() - timedelta(seconds=behind_s)
        if step_ceil(moment) > now():
            assert ask(ada, **{"from": "2026-08-31", "to": moment.isoformat()}).status_code == 200
    # A beginning would reach back, whenever it is.
    assert ask(ada, **{"from": now().replace(minute=7, second=3).isoformat()}).status_code == 400
    old = (now() - timedelta(hours=1, seconds=1)).replace(minute=7, second=3).isoformat()
    assert ask(ada, **{"from": "2026-08-31", "to": old}).status_code == 400
    odd = {"from": "2026-08-31T10:20:00Z", "to": "2026-09-10T10:20:30Z"}
    assert ask(ada, "usage/requests", **odd).status_code == 200
    refused = ask(ada, "usage.csv", **odd)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "from")


def test_others_see_none_of_it(ada: Customer, bob: Customer, used: int):
    assert usage_totals(org=bob.org, **span()).requests == 0
    assert first_call_at(org=bob.org) is None
    assert first_call_at(org=ada.org) == START + timedelta(hours=1, minutes=30)
    both = [ada.org.id, bob.org.id]
    assert set(usage_by_organisation(organisation_ids=both, **span())) == {ada.org.id}
    assert usage_by_organisation(organisation_ids=[bob.org.id], **span()) == {}
    assert ask(bob, group_by="model").json()["data"] == []
    assert [row["requests"] for row in rows_of(ask(bob, "usage.csv"))] == ["0"]
    assert rows_of(ask(bob, "usage/requests.csv")) == []


@pytest.mark.parametrize("request_id", ["", "x", "0" * 32, "ü"])
def test_a_request_that_is_not_there_is_404(ada: Customer, request_id: str):
    with pytest.raises(KindlingError) as refused:
        usage_event_get(org=ada.org, request_id=request_id)
    assert refused.value.status == 404


def test_the_api_sums_labels_and_pages(ada: Customer, used: int):
    body = ask(ada, group_by="model").json()
    assert (body["data"][0]["label"], body["data"][0]["at"]) == ("kindling/spark", None)
    assert body["total"]["cost_picousd"] == str(used)
    seen, cursor = [], ""
    while True:
        page = ask(ada, "usage/requests", limit="20", cursor=cursor).json()
        seen += [row["request_id"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == HOURS
    one = ada.client().get(f"/api/v1/usage/requests/{seen[0]}").json()
    assert (one["model"], one["cost_picousd"].isdigit()) == ("kindling/spark", True)


def test_moments_are_those_of_the_time_zone_that_was_asked_for(ada: Customer, used: int):
    body = ask(ada, interval="day", tz="Asia/Kolkata").json()
    assert (body["tz"], body["start"]) == ("Asia/Kolkata", "2026-09-01T00:00:00+05:30")
    assert [row["at"] for row in body["data"]] == [f"2026-09-0{day}T00:00:00+05:30" for day in (1, 2, 3)]
    # The first of them ended at 00:30 UTC, which is 06:00 there; 18:30 UTC begins the next day.
    assert [row["requests"] for row in body["data"]] == [18, 24, 8]


@pytest.mark.parametrize(
    "query", [{}, {"group_by": "status"}, {"interval": "day", "group_by": "adapter", "tz": "Asia/Kathmandu"}]
)
def test_an_answer_has_the_form_that_is_described(ada: Customer, used: int, query: dict[str, str]):
    body = ask(ada, compare="previous", **query).json()
    assert body["data"] and body["previous"]
    as_described = UsageShape(body).data
    # The described form turns moments to UTC, and so may not be what is sent.
    moments = {"start", "end", "at"}
    for sent, described in ((body, as_described), (body["previous"], as_described["previous"])):
        assert sent.keys() == described.keys()
        for row, shape in zip(
            (*sent["data"], sent["total"]), (*described["data"], described["total"]), strict=True
        ):
            assert list(row) == list(shape)
            assert {k: row[k] for k in row.keys() - moments} == {k: shape[k] for k in shape.keys() - moments}


def test_the_span_before_comes_with_it(ada: Customer, used: int):
    body = ask(
        ada, **{"from": "2026-09-02", "to": "2026-09-03"}, compare="previous", group_by="status"
    ).json()
    assert (body["total"]["requests"], body["previous"]["total"]["requests"]) == (24, 24)
    assert body["previous"]["end"] == body["start"] == "2026-09-02T00:00:00Z"
    assert {row["group"]: row["label"] for row in body["previous"]["data"]} == {
        "stop": "Complete", "error": "Failed, free",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ({"status": "error"}, 10),
        ({"status": "error,stop"}, HOURS),
        ({"model": "kindling/spark"}, HOURS),
        ({"model": "kindling/none"}, 0),
        ({"adapter": "none"}, HOURS),
        ({"key": "key_1", "status": "stop"}, 40),
        ({"key": "key_2"}, 0),
        ({"member": "nobody@example.test"}, 0),
    ],
)
def test_filters_count_alone_what_they_name(ada: Customer, used: int, query: dict[str, str], requests: int):
    assert ask(ada, **query).json()["total"]["requests"] == requests
    assert len(ask(ada, "usage/requests", limit="500", **query).json()["data"]) == requests
    assert len(rows_of(ask(ada, "usage/requests.csv", **query))) == requests


def test_members_are_those_who_made_the_keys(ada: Customer, db: None):
    books = Books(customer=ada)
    books.book(
        [books.record(START), books.record(START, key=books.keys[1].id), books.record(START, key="gone")]
    )
    rows = {row["label"]: row for row in ask(ada, group_by="member").json()["data"]}
    assert rows[ada.user.email]["requests"] == 1
    # Who has made a key is told of by address, member or not any more.
    colleague = User.objects.get(email__startswith="colleague")
    assert rows[colleague.email]["requests"] == 1
    assert len(rows) == 3 and ask(ada, member=ada.user.email).json()["total"]["requests"] == 1
    assert ask(ada, member=colleague.email).json()["total"]["requests"] == 1
    by_id = ask(ada, member=f"{ada.user.id}", key=books.keys[1].id).json()
    assert by_id["total"]["requests"] == 0


@pytest.mark.parametrize(
    "query", [{"interval": "day", "group_by": "key"}, {"group_by": "model"}, {"interval": "hour"}]
)
def test_csv_sums_to_the_ledger(ada: Customer, used: int, query: dict[str, str]):
    reply = ask(ada, "usage.csv", tz="Europe/Berlin", **{"from": "2026-08-31"}, **query)
    assert reply["Content-Type"] == "text/csv; charset=utf-8"
    assert (
        f'filename="kindling-usage-{ada.org.slug}-2026-08-31-2026-09-10.csv"' in reply["Content-Disposition"]
    )
    rows = rows_of(reply)
    spent = CREDIT - balance_get(owner_id=ada.org.id).picousd
    assert sum(int(row["cost_picousd"]) for row in rows) == spent == used
    assert sum(int(row["requests"]) for row in rows) == HOURS
    assert all(row["from"].endswith("+02:00") and row["from"] < row["to"] for row in rows)


def test_csv_of_requests_has_each_of_them_once_whatever_the_page(ada: Customer, used: int, monkeypatch):
    monkeypatch.setattr("kindling_platform.usage.exports.MAX_PAGE_ROWS", 7)
    rows = rows_of(ask(ada, "usage/requests.csv", tz="Europe/Berlin", **{"from": "2026-08-31"}))
    assert len({row["request_id"] for row in rows}) == len(rows) == HOURS
    assert sum(int(row["cost_picousd"]) for row in rows) == used
    moments = [row["finished_at"] for row in rows]
    assert moments == sorted(moments, reverse=True)
    assert moments[-1] == "2026-09-01T02:30:00+02:00"


def test_a_refused_csv_is_json_whatever_is_accepted(ada: Customer):
    reply = ada.client().get("/api/v1/usage.csv", {"tz": "Mars"}, HTTP_ACCEPT="text/csv")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "time_zone_unknown")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"from": "yesterday"}, "time_invalid"),
        ({"from": "0001-01-01"}, "time_invalid"),
        ({"to": "9999-12-31T23:59:59+14:00"}, "time_invalid"),
        ({"from": "2026-02-01", "to": "2026-01-01"}, "span_invalid"),
        ({"from": "2020-01-01", "to": "2026-01-01"}, "span_invalid"),
        ({"from": "2026-08-31T10:20:00Z"}, "span_invalid"),
        ({"from": "2026-08-31", "to": "2026-09-01T10:00:01Z"}, "span_invalid"),
        ({"from": "2026-08-31T00:10:00", "tz": "Asia/Kolkata"}, "span_invalid"),
        ({"group_by": "colour"}, "group_unknown"),
        ({"interval": "week"}, "interval_unknown"),
        ({"interval": "hour", "from": "2026-01-01"}, "span_too_long"),
        ({"tz": "Europe/Atlantis"}, "time_zone_unknown"),
        ({"compare": "next"}, "compare_unknown"),
        ({"key": "a\0b"}, "filter_invalid"),
        ({"key": ",".join(["k"] * 51)}, "filter_invalid"),
        ({"status": "done"}, "filter_invalid"),
        ({"status": "stop,"}, "filter_invalid"),
        ({"status": "Stop"}, "filter_invalid"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(ada: Customer, query: dict, code: str):
    reply = ask(ada, **query)
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
    "path",
    [
        "models", "adapters", "deployments", "keys", "ledger", "usage", "usage/requests",
        "usage?group_by=key&interval=day&compare=previous",
    ],
)  # fmt: skip
def test_lists_take_few_queries(ada: Customer, used: int, path: str, django_assert_max_num_queries):
    client = ada.client()
    with django_assert_max_num_queries(8):
        assert client.get(f"/api/v1/{path}").status_code == 200
