"""Invoices, risk, margins, revenue, reconciliation and the audit log over the API."""

import csv
import io
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from kindling_billing.models import ComparedDay, ComparedMovement, HostedPrice, HourCost, Invoice
from kindling_billing.terms import terms_get
from kindling_fake_stripe import FakeStripe
from kindling_people import ApiClient, Customer, make_model
from kindling_platform.api.operator_shapes.revenue import TAKINGS
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import ReplicaHour, ReplicaInterval
from kindling_platform.keys.services import key_create
from kindling_platform.usage.models import UsageSeries

pytestmark = pytest.mark.django_db
DOLLAR, HOUR_US = 10**12, 3_600_000_000
QUOTE = {"input_usd_per_million": "0.5", "output_usd_per_million": "1", "source": "A provider"}


@pytest.fixture(scope="module")
def kept_rows() -> bool:
    """The books of all are looked at."""
    return False


@pytest.fixture
def till(operator: Customer) -> ApiClient:
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


@pytest.fixture
def model(operator: Customer) -> Model:
    return make_model(operator)


def invoice(customer: Customer, *, days: int, number: int = 1, **fields: Any) -> Invoice:
    given = {"due_cents": 1000, "state": "final", "year": 2026, "number": number} | fields
    due_at = now() - timedelta(days=days)
    return Invoice.objects.create(
        owner_id=customer.org.id, month=date(2020 + number, 1, 1), due_at=due_at, **given
    )


def movement(day: date, **fields: Any) -> ComparedMovement:
    ComparedDay.objects.get_or_create(day=day, defaults={"movements": 1, "differing": 1})
    given = {"id": "ch_1", "kind": "charge", "verdict": "differs", "cause": "made_elsewhere"} | fields
    happened_at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    return ComparedMovement.objects.create(day=day, happened_at=happened_at, stripe_cents=500, **given)


def rows_of(reply) -> list[dict[str, str]]:
    assert reply["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(b"".join(reply).decode())))


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_invoices_are_found_by_organisation_and_state(ada: Customer, bob: Customer, till: ApiClient):
    invoice(ada, days=9, dunned=2, paid_cents=400)
    invoice(bob, days=-3, number=2, state="paid", paid_cents=1000)
    (row,) = till.call("get", f"operator/invoices?organisation={ada.org.slug}").json()["data"]
    assert (row["organisation_id"], row["number"], row["open_cents"]) == (ada.org.id, "2026-000001", 600)
    assert (row["days_overdue"], row["reminders"]) == (9, 2)
    (paid,) = till.call("get", "operator/invoices?state=paid").json()["data"]
    assert (paid["organisation_id"], paid["open_cents"], paid["days_overdue"]) == (bob.org.id, 0, 0)
    assert refusal(till.call("get", "operator/invoices?state=lost")) == (400, "parameter_invalid")
    assert till.call("get", "operator/invoices?organisation=nobody").json()["data"] == []


def test_what_is_unpaid_by_age(ada: Customer, bob: Customer, till: ApiClient):
    invoice(ada, days=40)
    invoice(bob, days=-3, number=2)
    found = till.call("get", "operator/invoices/unpaid").json()
    assert found["open_cents"] == 2000
    assert [row["organisation_id"] for row in found["data"]] == [ada.org.id, bob.org.id]
    assert {age["label"]: age["open_cents"] for age in found["ages"] if age["invoices"]} == {
        "not due yet": 1000, "31 to 60 days": 1000,
    }  # fmt: skip


def test_an_invoice_is_given_up_by_a_key(ada: Customer, till: ApiClient):
    row = invoice(ada, days=100)
    path = f"operator/invoices/{row.id}/give-up"
    assert refusal(till.call("post", path, {"note": " "})) == (422, "validation_failed")
    reply = till.call("post", path, {"note": "They are bankrupt."})
    assert (reply.status_code, reply.json()["state"], reply.json()["open_cents"]) == (200, "uncollectible", 0)
    event = AuditEvent.objects.get(action="invoice.written_off")
    assert (event.actor_label, event.data["after"]["reason"]) == ("key till", "They are bankrupt.")
    assert refusal(till.call("post", "operator/invoices/inv_none/give-up", {"note": "x"})) == (
        400,
        "invoice_unknown",
    )


def test_who_is_at_risk_and_why(ada: Customer, bob: Customer, till: ApiClient):
    invoice(ada, days=9, dunned=2)
    found = till.call("get", "operator/at-risk").json()
    assert found["counts"] == {"overdue": 1}
    (row,) = found["data"]
    assert (row["slug"], row["open_cents"], row["risks"][0]["kind"]) == (ada.org.slug, 1000, "overdue")
    assert till.call("get", "operator/at-risk?kind=dispute").json()["data"] == []
    assert refusal(till.call("get", "operator/at-risk?kind=luck")) == (400, "parameter_invalid")
    (line,) = rows_of(till.call("get", "operator/at-risk.csv?kind=overdue"))
    assert (line["slug"], line["reasons"]) == (ada.org.slug, "overdue")


def test_a_month_tells_dollars_per_million_here_and_elsewhere(
    ada: Customer, operator: Customer, till: ApiClient, model: Model
):
    start = datetime(2026, 10, 5, 8, tzinfo=UTC)
    ran = ReplicaInterval.objects.create(
        organisation_id=operator.org.id, deployment_id="dep_1", model_id=model.id, replica_name="r", pid=1,
        restarts=0, started_at=start, last_seen_at=start + timedelta(hours=10),
    )  # fmt: skip
    ReplicaHour.objects.create(interval=ran, hour=start, looked_us=HOUR_US, busy_us=HOUR_US // 4)
    UsageSeries.objects.create(
        organisation_id=ada.org.id, facet="model", step=start, value=model.id, requests=9,
        prompt_tokens=8_000_000, cached_tokens=0, completion_tokens=2_000_000, cost_picousd=6 * DOLLAR,
    )  # fmt: skip
    cost = {
        "model": model.ref,
        "usd_per_hour": "0.42",
        "note": "A machine",
        "valid_from": "2026-01-01T00:00:00Z",
    }
    assert till.call("post", "operator/costs", cost).status_code == 201
    quote = QUOTE | {"model": model.id, "quoted_on": "2026-10-01"}
    assert till.call("post", "operator/hosted-prices", quote).status_code == 201
    (row,) = till.call("get", "operator/margins?month=2026-10").json()["data"]
    assert (row["model"], row["revenue_usd"], row["cost_usd"]) == (model.ref, "6.00", "4.20")
    assert (row["usd_per_million"], row["hosted_usd_per_million"]) == ("0.42", "0.60")
    assert (row["busy_permille"], row["tokens_per_hour"]) == (250, 1_000_000)
    month = till.call("get", f"operator/margins/{model.id}?month=2026-10").json()
    assert [day["day"] for day in month["data"]] == ["2026-10-05"]
    assert month["total"] == {name: row[name] for name in month["total"]}
    (line,) = rows_of(till.call("get", "operator/margins.csv?month=2026-10"))
    assert (line["model"], line["revenue_picousd"]) == (model.ref, str(6 * DOLLAR))
    assert {
        event.actor_label for event in AuditEvent.objects.filter(target=model.id, action__contains="entered")
    } == {"key till"}


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("costs", {"model": "kindling/none", "usd_per_hour": "1"}, "not_found"),
        ("costs", {"usd_per_hour": "-1"}, "amount_invalid"),
        ("costs", {"usd_per_hour": "10001"}, "amount_invalid"),
        ("costs", {"usd_per_hour": "cheap"}, "amount_invalid"),
        ("hosted-prices", QUOTE | {"model": "kindling/none", "quoted_on": "2026-10-01"}, "not_found"),
        ("hosted-prices", QUOTE | {"model": "kindling/spark", "quoted_on": "2999-10-01"}, "date_invalid"),
        (
            "hosted-prices",
            QUOTE | {"model": "kindling/spark", "quoted_on": "2026-10-01", "output_usd_per_million": "-1"},
            "amount_invalid",
        ),
    ],
)
def test_impossible_costs_are_refused(till: ApiClient, model: Model, path: str, body: dict, code: str):
    assert till.call("post", f"operator/{path}", body).json()["error"]["code"] == code
    assert not HourCost.objects.exists()
    assert not HostedPrice.objects.exists()


def test_a_month_that_is_none_and_a_model_that_is_none(till: ApiClient):
    assert refusal(till.call("get", "operator/margins?month=2026-13")) == (400, "parameter_invalid")
    assert refusal(till.call("get", "operator/margins/mdl_none")) == (404, "not_found")


def test_revenue_over_time_and_whose_it_is(ada: Customer, till: ApiClient, model: Model):
    step = now().replace(minute=0, second=0, microsecond=0)
    for facet, value in (("all", ""), ("model", model.id)):
        UsageSeries.objects.create(
            organisation_id=ada.org.id, facet=facet, step=step, value=value, requests=3, cost_picousd=DOLLAR
        )
    (day,) = till.call("get", "operator/revenue").json()["data"]
    assert (day["usage"]["requests"], day["usage"]["cost_usd"]) == (3, "1.00")
    assert day["takings"]["granted_picousd"] == str(DOLLAR)  # with which everybody begins
    assert day["takings"]["gpu_time_picousd"] == "0"
    (month,) = till.call("get", "operator/revenue?step=month").json()["data"]
    assert month["usage"] == day["usage"]
    for path, row in (("revenue.csv", day), ("revenue.csv?step=month", month)):
        (line,) = rows_of(till.call("get", f"operator/{path}"))
        assert line["month" if "month" in path else "day"] == row["at"].replace("Z", "+00:00")
        assert (line["requests"], line["usage_picousd"]) == ("3", str(DOLLAR))
        assert {f"{name}_picousd": line[f"{name}_picousd"] for name in TAKINGS} == row["takings"]
    (share,) = till.call("get", "operator/revenue/shares?by=model").json()["data"]
    assert (share["id"], share["name"], share["cost_usd"]) == (model.id, model.ref, "1.00")
    (share,) = till.call("get", "operator/revenue/shares").json()["data"]
    assert (share["id"], share["name"]) == (ada.org.id, ada.org.slug)


@pytest.mark.parametrize(
    "query", ["from=2026-02-30", "from=2026-02-02&to=2026-02-01", "step=week", "from=0001-01-01"]
)
def test_a_span_that_is_none(till: ApiClient, query: str):
    for path in ("revenue", "revenue.csv"):
        reply = till.call("get", f"operator/{path}?{query}")
        assert refusal(reply) in {(400, "parameter_invalid"), (400, "span_invalid")}


def test_reconciliation_by_day_and_movement(ada: Customer, till: ApiClient):
    today = now().date()
    movement(today, owner_id=ada.org.id)
    movement(today - timedelta(days=60), id="ch_2", verdict="agrees", cause="")
    found = till.call("get", "operator/reconciliation").json()
    assert [day["day"] for day in found["data"]] == [today.isoformat()]
    assert (found["payments_on"], found["differing"], found["compared_at"]) == (False, 1, None)
    (row,) = found["differences"]
    assert (row["id"], row["organisation_id"], row["what_is_wrong"][:14]) == (
        "ch_1",
        ada.org.id,
        "Made at Stripe",
    )
    assert len(till.call("get", "operator/reconciliation?days=90").json()["data"]) == 2
    rows = till.call("get", "operator/reconciliation/movements").json()["data"]
    assert [row["id"] for row in rows] == ["ch_1", "ch_2"]
    (only,) = till.call("get", f"operator/reconciliation/movements?day={today}").json()["data"]
    assert only["id"] == "ch_1"
    assert [line["id"] for line in rows_of(till.call("get", "operator/reconciliation.csv"))] == ["ch_1"]
    for query in ("days=0", "days=367", "days=x"):
        assert refusal(till.call("get", f"operator/reconciliation?{query}")) == (400, "parameter_invalid")


def test_a_difference_is_accepted_by_a_key(till: ApiClient):
    movement(now().date())
    path = "operator/reconciliation/movements/ch_1/accept"
    reply = till.call("post", path, {"note": "Paid by hand."})
    assert (reply.status_code, reply.json()["accepted_by"]) == (200, "key till")
    assert refusal(till.call("post", path, {"note": "Again."})) == (400, "difference_unknown")
    assert AuditEvent.objects.get(action="difference.accepted").actor_label == "key till"


def test_comparing_now_asks_the_provider(till: ApiClient, payments_on: FakeStripe):
    reply = till.call("post", "operator/reconciliation")
    assert reply.status_code == 200, reply.content
    assert reply.json()["payments_on"] is True
    assert reply.json()["compared_at"]


def test_comparing_without_a_provider_is_refused(till: ApiClient):
    assert refusal(till.call("post", "operator/reconciliation")) == (409, "payments_off")


def test_the_audit_log_is_found_and_read_as_a_table(ada: Customer, bob: Customer, till: ApiClient):
    till.call("post", f"operator/organisations/{ada.org.id}/suspend", {"reason": "Because."})
    query = f"organisation={ada.org.slug}&actor=till&action=organisation"
    (event,) = till.call("get", f"operator/audit?{query}").json()["data"]
    assert (event["action"], event["data"]["reason"]) == ("organisation.suspended", "Because.")
    (line,) = rows_of(till.call("get", f"operator/audit.csv?{query}"))
    assert (line["id"], line["actor_label"]) == (event["id"], "key till")
    money = till.call("get", "operator/audit?only=money").json()["data"]
    assert {row["action"] for row in money} == {"credit.granted"}
    tomorrow = (now() + timedelta(days=1)).date()
    assert till.call("get", f"operator/audit?from={tomorrow}").json()["data"] == []
    assert till.call("get", f"operator/audit?to={now().date()}&limit=1").json()["next_cursor"]
    assert refusal(till.call("get", "operator/audit?from=soon")) == (400, "parameter_invalid")
    assert refusal(till.call("get", "operator/audit?only=luck")) == (400, "parameter_invalid")
    assert terms_get(owner_id=ada.org.id).suspended_at is None
