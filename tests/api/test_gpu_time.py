"""GPU time over the API: made for an organisation by the operator, charged to it, and seen by it alone."""

import csv
import io
from datetime import timedelta

import pytest

from kindling_billing.selectors import balance_get, price_current
from kindling_gpu_time import GPU_MS, HOUR_COST, START, gpu_price, held
from kindling_people import Customer, make_model, make_record
from kindling_platform.common.clock import now
from kindling_platform.deployments.gpu_time import interval_bill, interval_list_unbilled
from kindling_platform.deployments.models import Deployment
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
COST = 9_000_000 * GPU_MS
SPAN = "from=2026-03-10&to=2026-03-11"


@pytest.fixture
def rented(operator: Customer, ada: Customer) -> Deployment:
    model = make_model(operator, priced=False)
    gpu_price(model.id)
    body = {"name": "night-shift", "model": model.ref, "organisation": ada.org.slug, "weights": "int8wo"}
    made = operator.browser().call("post", "deployments", body)
    assert made.status_code == 201, made.content
    deployment = Deployment.objects.get(id=made.json()["id"])
    held(deployment)
    for interval_id in interval_list_unbilled(moment=now()):
        interval_bill(interval_id=interval_id, moment=now())
    return deployment


def test_it_is_the_organisations_own(operator: Customer, ada: Customer, bob: Customer, rented: Deployment):
    (row,) = ada.client().call("get", "deployments").json()["data"]
    assert (row["id"], row["weights"]) == (rented.id, "int8wo")
    for name in ("stop", "start"):
        assert ada.client().call("post", f"deployments/{rented.id}/{name}").status_code == 200
        assert bob.client().call("post", f"deployments/{rented.id}/{name}").status_code == 404
    body = {"name": "x", "model": rented.model.ref, "organisation": ada.org.slug}
    refused = bob.client().call("post", "deployments", body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "deployments_closed")
    assert operator.browser().call("post", "deployments", body | {"weights": "int3"}).status_code == 422
    assert operator.browser().call("post", "deployments", body | {"kv_dtype": "int4"}).status_code == 422
    unknown = operator.browser().call("post", "deployments", body | {"organisation": "nobody"})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "organisation_unknown")


def test_the_operator_changes_it_and_its_owner_deletes_it(
    operator: Customer, ada: Customer, bob: Customer, rented: Deployment
):
    path = f"deployments/{rented.id}"
    refused = ada.client().call("patch", path, {"replicas": 2})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "deployments_closed")
    assert operator.browser().call("patch", path, {"replicas": 2}).status_code == 404
    changed = operator.browser().call("patch", f"operator/{path}", {"replicas": 2, "kv_dtype": "fp8"}).json()
    assert (changed["desired_replicas"], changed["kv_dtype"], changed["generation"]) == (2, "fp8", 2)
    assert changed["weights"] == "int8wo"
    wrong = operator.browser().call("patch", f"operator/{path}", {"replicas": 65})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "replicas_invalid")
    for name, desired in (("stop", "stopped"), ("start", "running")):
        row = operator.browser().call("post", f"operator/{path}/{name}").json()
        assert (row["organisation"], row["desired_state"]) == (ada.org.slug, desired)
    assert bob.client().call("delete", path).status_code == 404
    assert ada.client().call("delete", path).status_code == 204
    assert ada.client().call("get", "deployments").json()["data"] == []
    assert ada.client().call("delete", path).status_code == 404
    assert operator.browser().call("get", f"operator/{path}").status_code == 404
    # What it cost stays, under its name.
    (row,) = ada.client().call("get", f"usage/gpu-time?{SPAN}").json()["data"]
    assert (row["deployment"], row["cost_picousd"]) == ("night-shift", str(COST))


def test_more_replicas_want_credit_for_an_hour_of_them(operator: Customer, rented: Deployment):
    gpu_price(rented.model_id, 1_000 * GPU_MS, since=now())
    path = f"operator/deployments/{rented.id}"
    refused = operator.browser().call("patch", path, {"replicas": 2})
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "insufficient_credit")
    assert Deployment.objects.get().desired_replicas == 1


def test_sums_by_deployment_and_step_are_what_the_ledger_says(ada: Customer, rented: Deployment):
    found = ada.client().call("get", f"usage/gpu-time?{SPAN}").json()
    assert (found["interval"], found["tz"]) == (None, "UTC")
    (row,) = found["data"]
    assert (row["deployment_id"], row["deployment"], row["gpu_ms"]) == (rented.id, "night-shift", 9_000_000)
    assert (row["cost_picousd"], row["cost_usd"]) == (str(COST), "0.009")
    assert balance_get(owner_id=ada.org.id).picousd == 10**12 - COST
    hours = ada.client().call("get", f"usage/gpu-time?{SPAN}&interval=hour").json()
    assert [one["at"] for one in hours["data"]] == [f"2026-03-10T{hour:02}:00:00Z" for hour in (9, 10, 11)]
    assert hours["total"] == found["total"]
    lines = ada.client().call("get", "ledger").json()["data"]
    mine = [line for line in lines if line["source_type"] == "gpu_time"]
    assert sum(int(line["amount_picousd"]) for line in mine) == -COST
    refused = ada.client().call("get", "usage/gpu-time?from=2026-03-11&to=2026-03-10")
    assert refused.json()["error"]["code"] == "span_invalid"


def test_the_table_says_the_same(ada: Customer, bob: Customer, rented: Deployment):
    reply = ada.client().call("get", f"usage/gpu-time.csv?{SPAN}&interval=day")
    rows = list(csv.DictReader(io.StringIO(b"".join(reply).decode())))
    assert [(row["deployment_name"], int(row["gpu_ms"]), int(row["cost_picousd"])) for row in rows] == [
        ("night-shift", 9_000_000, COST)
    ]
    assert rows[0]["from"].startswith(f"{START:%Y-%m-%d}")
    assert len(b"".join(bob.client().call("get", f"usage/gpu-time.csv?{SPAN}")).splitlines()) == 1


@pytest.fixture
def called(ada: Customer, rented: Deployment) -> int:
    """A request of ada's on the day of the GPU time; what it cost."""
    price, at_ms = price_current(sku=rented.model_id, at=START), int(START.timestamp() * 1000)
    assert price
    times = {"started_ms": at_ms, "first_token_ms": at_ms + 1, "finished_ms": at_ms + 5}
    record = make_record(ada.org.id, rented.model, price, **times)
    usage_ingest(source="r", log_id="l", after=0, records=[record], next_offset=1)
    return 10**12 - COST - balance_get(owner_id=ada.org.id).picousd


def test_usage_has_it_beside_the_requests_and_both_are_the_ledgers(
    ada: Customer, bob: Customer, rented: Deployment, called: int
):
    assert called > 0
    for query in ("", "&interval=hour", "&group_by=key", "&interval=day&group_by=model&compare=previous"):
        found = ada.client().call("get", f"usage?{SPAN}{query}").json()
        assert (int(found["total"]["cost_picousd"]), found["total"]["requests"]) == (called, 1)
        assert sum(int(row["cost_picousd"]) for row in found["data"]) == called
        assert (found["gpu_time"]["gpu_ms"], found["gpu_time"]["cost_picousd"]) == (9_000_000, str(COST))
        assert (
            int(found["charged_picousd"])
            == called + COST
            == 10**12 - balance_get(owner_id=ada.org.id).picousd
        )
        if before := found["previous"]:
            assert (before["gpu_time"]["gpu_ms"], before["charged_picousd"]) == (0, "0")
    some = ada.client().call("get", f"usage?{SPAN}&status=stop").json()
    assert (some["gpu_time"], some["charged_picousd"]) == (None, str(called))
    other = bob.client().call("get", f"usage?{SPAN}").json()
    assert (other["gpu_time"]["gpu_ms"], other["charged_picousd"]) == (0, "0")


@pytest.mark.parametrize("path", ["/api/v1/usage.csv", "/console/usage/usage.csv"])
@pytest.mark.parametrize("query", ["", "&interval=hour", "&interval=day&group_by=model&tz=Asia/Tokyo"])
def test_the_table_of_usage_sums_to_the_ledger(ada: Customer, called: int, path: str, query: str):
    client = ada.client() if path.startswith("/api") else ada.browser()
    span = "from=2026-03-10T00:00Z&to=2026-03-11T00:00Z"
    rows = list(csv.DictReader(io.StringIO(b"".join(client.get(f"{path}?{span}{query}")).decode())))
    assert sum(int(row["cost_picousd"]) for row in rows) == called + COST
    by_kind = {
        kind: [row for row in rows if row["kind"] == kind and row["cost_picousd"] != "0"]
        for kind in ("requests", "gpu_time")
    }
    assert sum(int(row["cost_picousd"]) for row in by_kind["requests"]) == called
    assert sum(int(row["gpu_ms"]) for row in by_kind["gpu_time"]) == 9_000_000
    assert len(by_kind["gpu_time"]) == (3 if "hour" in query else 1)
    assert {row["requests"] for row in by_kind["gpu_time"]} == {"0"}
    chosen = b"".join(client.get(f"{path}?{span}{query}&status=stop")).decode()
    assert "gpu_time" not in chosen


def test_the_operator_sees_it_beside_what_an_organisation_used(
    operator: Customer, ada: Customer, rented: Deployment
):
    hour = now().replace(minute=0, second=0, microsecond=0)
    held(rented, start=hour, lasts=timedelta(hours=1), name="later")
    moment = hour + timedelta(hours=2)
    for interval_id in interval_list_unbilled(moment=moment):
        interval_bill(interval_id=interval_id, moment=moment)
    found = operator.browser().call("get", f"operator/organisations/{ada.org.id}").json()
    assert (found["month"]["cost_picousd"], found["month"]["gpu_time_picousd"]) == ("0", str(HOUR_COST))


def test_a_start_that_cannot_be_paid_is_refused_in_words(ada: Customer, rented: Deployment):
    assert ada.client().call("post", f"deployments/{rented.id}/stop").status_code == 200
    gpu_price(rented.model_id, 10**12, since=now())
    refused = ada.client().call("post", f"deployments/{rented.id}/start")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (402, "insufficient_credit")
    assert "$0.99 is left" in error["message"]
