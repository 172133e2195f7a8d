"""Records that wait, proofs and rating anew as the operator's programs see and decide about them."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from kindling_billing.models import OutboxCall, Proof, StripeEvent
from kindling_billing.models.prices import Rerating
from kindling_billing.selectors import balance_get, drift_list, ledger_sum, price_current
from kindling_billing.services import price_publish
from kindling_people import CACHED, INPUT, OUTPUT, ApiClient, Customer, make_model, make_record
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import GpuHour, ReplicaInterval
from kindling_platform.keys.services import key_create
from kindling_platform.records.acting import ACTIONS
from kindling_platform.records.kinds import KINDS
from kindling_platform.usage.models import ParkedUsage, WitnessDrift
from kindling_platform.usage.rerating import rerating_step
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
START = 10**12
COST = 6 * INPUT + 4 * CACHED + 5 * OUTPUT
RECORDS = "operator/records"


@pytest.fixture
def till(operator: Customer) -> ApiClient:
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


@pytest.fixture
def model(operator: Customer) -> Model:
    return make_model(operator)


def use(customer: Customer, model: Model, *, requests: int = 1, price: str = "") -> list[str]:
    """Requests of an hour ago, by a price that may not be there; the ids of their records."""
    ended = int((now() - timedelta(hours=1)).timestamp() * 1000)
    current = price_current(sku=model.id)
    assert current
    current.id = price or current.id
    times = {"started_ms": ended - 50, "first_token_ms": ended - 40, "finished_ms": ended}
    records = [make_record(customer.org.id, model, current, **times) for _ in range(requests)]
    usage_ingest(source="test", log_id=records[0].request_id, after=0, records=records, next_offset=1)
    return [record.request_id for record in records]


def price_since_yesterday(model: Model, *, factor: int) -> None:
    price_publish(
        sku=model.id, input_picousd=factor * INPUT, cached_input_picousd=factor * CACHED,
        output_picousd=factor * OUTPUT, valid_from=now() - timedelta(days=1),
    )  # fmt: skip


def rows(till: ApiClient, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = till.call("get", f"{RECORDS}/{kind}").json()["data"]
    return found


def act(till: ApiClient, kind: str, record_id: Any, action: str, **body: str):
    return till.call("post", f"{RECORDS}/{kind}/{record_id}/{action}", body)


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_every_kind_is_counted_with_its_actions(till: ApiClient):
    StripeEvent.objects.create(id="evt_1", type="x", state="parked", happened_at=now())
    found = {row["kind"]: row for row in till.call("get", RECORDS).json()["data"]}
    assert list(found) == list(KINDS)
    assert {kind: row["waiting"] for kind, row in found.items() if row["waiting"]} == {"events": 1}
    assert {(kind, name) for kind, row in found.items() for name in row["actions"]} == set(ACTIONS)


def test_usage_is_billed_once_its_price_is_there(ada: Customer, model: Model, till: ApiClient):
    first, second = use(ada, model, requests=2, price="prc_gone")
    found = {row["id"]: row for row in rows(till, "usage")}
    assert set(found) == {first, second}
    assert "no price version" in found[first]["reason"]
    assert found[first]["what_to_do"].startswith("Publish a price")
    assert found[first]["details"] == {"source": "test"}
    assert refusal(act(till, "usage", first, "release")) == (409, "still_unbillable")
    price_since_yesterday(model, factor=1)
    reply = act(till, "usage", first, "release")
    assert (reply.status_code, reply.json()["done"]) == (200, "It is billed."), reply.content
    assert START - balance_get(owner_id=ada.org.id).picousd == COST
    assert refusal(act(till, "usage", first, "release")) == (404, "not_found")
    assert refusal(act(till, "usage", second, "dismiss")) == (400, "note_missing")
    assert act(till, "usage", second, "dismiss", note="A test.").status_code == 200
    assert not ParkedUsage.objects.exists()
    said = AuditEvent.objects.filter(action__startswith="usage.", actor_label="key till")
    assert {(event.action, event.target) for event in said} == {
        ("usage.released", first),
        ("usage.dismissed", second),
    }
    assert (ledger_sum(), drift_list()) == (0, [])


def test_a_gpu_hour_is_given_up(ada: Customer, model: Model, till: ApiClient):
    hour = now().replace(minute=0, second=0, microsecond=0)
    interval = ReplicaInterval.objects.create(
        organisation_id=ada.org.id, deployment_id="dep_1", model_id=model.id, replica_name="r", pid=1,
        restarts=0, started_at=hour, last_seen_at=hour,
    )  # fmt: skip
    row = GpuHour.objects.create(
        interval=interval, hour=hour, organisation_id=ada.org.id, deployment_id="dep_1", deployment_name="mine",
        model_id=model.id, held_ms=60_000, state="parked", reason="There is no price.",
    )  # fmt: skip
    (found,) = rows(till, "gpu")
    assert (found["id"], found["organisation_id"]) == (str(row.id), ada.org.id)
    assert found["details"]["held_ms"] == 60_000
    for record_id in ("x", "9" * 30, row.id + 1):
        assert refusal(act(till, "gpu", record_id, "dismiss", note="x")) == (404, "not_found")
    assert act(till, "gpu", row.id, "dismiss", note="A gift.").status_code == 200
    assert rows(till, "gpu") == []
    event = AuditEvent.objects.get(action="gpu_time.given_up")
    assert (event.actor_label, event.data["note"]) == ("key till", "A gift.")


def test_events_and_requests_are_closed_with_a_note(ada: Customer, till: ApiClient):
    StripeEvent.objects.create(
        id="evt_1", type="refund.updated", state="parked", reason="payment_unknown: x", happened_at=now()
    )
    call = OutboxCall.objects.create(
        kind="refund", subject="pay_1:rfd_1", owner_id=ada.org.id, state="refused", trouble="Too late."
    )
    (event,), (request,) = rows(till, "events"), rows(till, "requests")
    assert (event["id"], event["details"]) == ("evt_1", {"type": "refund.updated"})
    assert "reconcile the payments" in event["what_to_do"]
    assert (request["reason"], request["organisation_id"]) == ("Too late.", ada.org.id)
    for kind, record_id in (("events", "evt_1"), ("requests", call.id)):
        assert refusal(act(till, kind, record_id, "close")) == (400, "note_missing")
        assert refusal(act(till, kind, record_id, "retry")) == (409, "payments_off")
        assert act(till, kind, record_id, "close", note="By hand.").status_code == 200
        assert rows(till, kind) == []
    closed = AuditEvent.objects.filter(action__endswith=".closed", data__note="By hand.")
    assert {event.actor_label for event in closed} == {"key till"}
    assert closed.count() == 2


def test_counts_that_differ_are_told_and_nothing_can_be_done(ada: Customer, till: ApiClient):
    WitnessDrift.objects.create(
        request_id="018f5a3e-0000-7000-8000-000000000001", organisation_id=ada.org.id, kind="counts",
        booked={"prompt_tokens": 1}, logged={"prompt_tokens": 2}, found_at=now(),
    )  # fmt: skip
    (row,) = rows(till, "witnesses")
    assert row["details"] == {
        "kind": "counts", "booked": {"prompt_tokens": 1}, "logged": {"prompt_tokens": 2},
    }  # fmt: skip
    assert refusal(act(till, "witnesses", row["id"], "dismiss", note="x")) == (404, "not_found")


@pytest.mark.parametrize(
    "path", ["luck", "usage?cursor=x", "usage?limit=0", "usage/x/release", "usage/x/steal", "luck/x/close"]
)
def test_what_is_none_is_refused(till: ApiClient, path: str):
    method = "post" if path.count("/") else "get"
    reply = till.call(method, f"{RECORDS}/{path}", {} if method == "post" else None)
    assert refusal(reply) in {(404, "not_found"), (400, "cursor_invalid"), (400, "limit_invalid")}


def test_each_kind_is_a_table(ada: Customer, model: Model, till: ApiClient):
    use(ada, model, price="prc_gone")
    for kind in KINDS:
        reply = till.call("get", f"{RECORDS}.csv?kind={kind}")
        lines = list(csv.DictReader(io.StringIO(b"".join(reply).decode())))
        assert len(lines) == (kind == "usage"), kind
    assert refusal(till.call("get", f"{RECORDS}.csv?kind=luck")) == (400, "parameter_invalid")


def test_proofs_are_asked_for_and_read(till: ApiClient):
    reply = till.call("post", "operator/proofs")
    assert (reply.status_code, reply.json()) == (202, {"asked": True})
    assert AuditEvent.objects.get(action="proof.asked").actor_label == "key till"
    Proof.objects.create(checks={"sums": 0}, run_at=now() - timedelta(hours=1))
    finding = {"check": "sums", "finding": "They differ."}
    Proof.objects.create(checks={"sums": 1}, findings=[finding])
    newest, before = till.call("get", "operator/proofs").json()["data"]
    assert (newest["is_sound"], newest["checks"], newest["findings"]) == (False, {"sums": 1}, [finding])
    assert (before["is_sound"], before["findings"]) == (True, [])


def test_rating_anew_is_previewed_started_and_watched(
    ada: Customer, bob: Customer, model: Model, till: ApiClient
):
    use(ada, model, requests=3)
    use(bob, model)
    price_since_yesterday(model, factor=2)
    span = {
        "model": model.ref, "start": (now() - timedelta(days=1)).isoformat(), "end": now().isoformat(),
    }  # fmt: skip
    effect = till.call("post", "operator/reratings/preview", span).json()
    assert (effect["organisations"], effect["total"]["changed"]) == (2, 4)
    assert effect["total"]["difference_picousd"] == str(4 * COST)
    assert [row["organisation_id"] for row in effect["by_organisation"]] == [ada.org.id, bob.org.id]
    assert not Rerating.objects.exists()
    wish = span | {"organisation": ada.org.slug, "reason": "A typing error"}
    reply = till.call("post", "operator/reratings", wish)
    assert reply.status_code == 201, reply.content
    run = reply.json()
    assert (run["state"], run["organisation_id"], run["model"]) == ("running", ada.org.id, model.ref)
    while rerating_step(run_id=run["id"]):
        pass
    done = till.call("get", f"operator/reratings/{run['id']}").json()
    assert (done["state"], done["seen"], done["changed"]) == ("done", 3, 3)
    assert done["difference_picousd"] == str(3 * COST)
    assert [row["id"] for row in till.call("get", "operator/reratings").json()["data"]] == [run["id"]]
    assert START - balance_get(owner_id=ada.org.id).picousd == 6 * COST
    event = AuditEvent.objects.get(action="usage.rerated")
    assert (event.actor_label, event.data["reason"]) == ("key till", "A typing error")
    assert (ledger_sum(), drift_list()) == (0, [])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model": "kindling/none"}, "model_unknown"),
        ({"organisation": "nobody"}, "organisation_unknown"),
        ({"end": "2026-01-01T00:00:00Z"}, "span_invalid"),
        ({"end": "2999-01-01T00:00:00Z"}, "span_invalid"),
        ({"reason": " "}, "validation_failed"),
        ({"start": "soon"}, "validation_failed"),
    ],
)
def test_impossible_runs_are_refused(till: ApiClient, model: Model, changes: dict[str, str], code: str):
    span = {
        "model": model.ref, "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z", "reason": "x",
    }  # fmt: skip
    assert till.call("post", "operator/reratings", span | changes).json()["error"]["code"] == code
    assert not Rerating.objects.exists()


@pytest.mark.parametrize("run", ["x", "0", "9" * 30, "-1"])
def test_a_run_that_is_none(till: ApiClient, run: str):
    assert refusal(till.call("get", f"operator/reratings/{run}")) == (404, "not_found")
