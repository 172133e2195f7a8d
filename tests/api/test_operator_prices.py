"""The price book over the API: listed, previewed, published from a day on, withdrawn, read as a table."""

import csv
import io
from datetime import timedelta

import pytest

from kindling_billing.models import PriceVersion
from kindling_billing.plans import plan_assign, plan_create
from kindling_billing.selectors import price_current
from kindling_people import ApiClient, Customer, make_model, make_record
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.keys.services import key_create
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
PRICE = {
    "input_usd_per_million": "0.20", "cached_input_usd_per_million": "0.10", "output_usd_per_million": "0.80",
}  # fmt: skip


@pytest.fixture
def model(operator: Customer) -> Model:
    return make_model(operator)


@pytest.fixture
def till(operator: Customer) -> ApiClient:
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


def wish(model: Model, corrects: bool = False, **changes) -> dict:
    return {"prices": [{"model": model.ref} | PRICE | changes], "corrects": corrects}


def refusal(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_a_price_holds_from_its_day_on(till: ApiClient, model: Model):
    later = (now() + timedelta(days=7)).replace(microsecond=0)
    reply = till.call("post", "operator/prices", wish(model, valid_from=later.isoformat()))
    assert reply.status_code == 201, reply.content
    (made,) = reply.json()["data"]
    assert (made["state"], made["model"], made["created_by"]) == ("future", model.ref, "key till")
    assert (made["input_picousd"], made["input_usd_per_million"]) == ("200000", "0.20")
    rows = till.call("get", f"operator/prices?model={model.ref}").json()["data"]
    assert [(row["state"], row["until"]) for row in rows] == [
        ("future", None),
        ("in_force", made["valid_from"]),
    ]
    event = AuditEvent.objects.filter(action="price.published").latest("created_at")
    assert (event.actor_label, event.data["version"]) == ("key till", made["id"])


def test_prices_are_published_all_or_none(till: ApiClient, model: Model):
    body = wish(model)
    body["prices"].append({"model": "kindling/none"} | PRICE)
    reply = till.call("post", "operator/prices", body)
    assert refusal(reply) == (400, "model_unknown")
    assert reply.json()["error"]["param"] == "prices.1.model"
    assert PriceVersion.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"input_usd_per_million": "-1"}, "amount_invalid"),
        ({"input_usd_per_million": "0.0000001"}, "amount_invalid"),
        ({"input_usd_per_million": "1000001"}, "amount_invalid"),
        ({"input_usd_per_million": "dear"}, "amount_invalid"),
        ({"reasoning_usd_per_million": "-1"}, "amount_invalid"),
        ({"batch_percent": 101}, "validation_failed"),
        ({"gpu_picousd_per_ms": -1}, "validation_failed"),
        ({"plan_id": "plan_none"}, "plan_unknown"),
        ({"valid_from": "2026-01-01T00:00:00Z"}, "valid_from_past"),
        ({"valid_from": "2099-01-01T00:00:00Z"}, "valid_from_far"),
    ],
)
@pytest.mark.parametrize("path", ["operator/prices", "operator/prices/preview"])
def test_impossible_prices_are_refused(till: ApiClient, model: Model, path: str, changes: dict, code: str):
    assert till.call("post", path, wish(model, **changes)).json()["error"]["code"] == code
    assert PriceVersion.objects.count() == 1


def test_two_of_the_same_moment_are_refused(till: ApiClient, model: Model):
    body = wish(model)
    body["prices"] *= 2
    assert refusal(till.call("post", "operator/prices", body)) == (400, "price_doubled")
    assert till.call("post", "operator/prices", {"prices": []}).status_code == 422


def test_the_past_is_corrected_when_that_is_meant(till: ApiClient, model: Model):
    yesterday = (now() - timedelta(days=1)).isoformat()
    reply = till.call("post", "operator/prices", wish(model, corrects=True, valid_from=yesterday))
    assert reply.status_code == 201
    assert reply.json()["data"][0]["state"] == "past"


def test_a_preview_says_what_prices_would_have_made_of_usage(ada: Customer, till: ApiClient, model: Model):
    price = price_current(sku=model.id)
    assert price
    at = int((now() - timedelta(hours=1)).timestamp() * 1000)
    times = {"started_ms": at, "first_token_ms": at + 1, "finished_ms": at + 2}
    records = [make_record(ada.org.id, model, price, **times) for _ in range(3)]
    usage_ingest(source="r", log_id="l", after=0, records=records, next_offset=3)
    before = 3 * (6 * price.input_picousd + 4 * price.cached_input_picousd + 5 * price.output_picousd)
    _, days = till.call("post", "operator/prices/preview", wish(model)).json()["data"]
    (owner,) = days["by_organisation"]
    (sku,) = days["by_model"]
    assert (owner["id"], sku["id"]) == (ada.org.id, model.id)
    assert days["total"]["before_picousd"] == str(before)
    assert owner["after_picousd"] == str(2 * before)
    assert PriceVersion.objects.count() == 1


def test_gpu_time_goes_on_at_its_price_unless_another_is_given(till: ApiClient, model: Model):
    for given, held in (({"gpu_picousd_per_ms": 700}, "700"), ({}, "700"), ({"gpu_picousd_per_ms": 0}, "0")):
        (made,) = till.call("post", "operator/prices", wish(model, **given)).json()["data"]
        assert made["gpu_picousd_per_ms"] == held


def test_a_plan_has_prices_of_its_own(ada: Customer, till: ApiClient, model: Model):
    plan = plan_create(name="Partners")
    plan_assign(owner_id=ada.org.id, plan_id=plan.id)
    assert till.call("post", "operator/prices", wish(model, plan_id=plan.id)).status_code == 201
    (row,) = till.call("get", f"operator/prices?plan_id={plan.id}").json()["data"]
    assert row["state"] == "in_force"
    (book,) = till.call("get", "operator/prices?plan_id=book").json()["data"]
    assert book["id"] != row["id"]


def test_a_price_that_has_not_begun_is_taken_back(till: ApiClient, model: Model):
    later = (now() + timedelta(days=7)).isoformat()
    (made,) = till.call("post", "operator/prices", wish(model, valid_from=later)).json()["data"]
    reply = till.call("post", f"operator/prices/{made['id']}/withdraw")
    assert (reply.status_code, reply.json()["input_picousd"]) == (200, "100000")
    again = till.call("post", f"operator/prices/{made['id']}/withdraw")
    assert refusal(again) == (409, "price_replaced")
    begun = PriceVersion.objects.earliest("valid_from")
    assert refusal(till.call("post", f"operator/prices/{begun.id}/withdraw")) == (409, "price_begun")
    assert refusal(till.call("post", "operator/prices/prc_none/withdraw")) == (404, "not_found")


def test_the_book_is_a_table(till: ApiClient, model: Model):
    reply = till.call("get", "operator/prices.csv")
    (row,) = csv.DictReader(io.StringIO(b"".join(reply).decode()))
    assert (row["model"], row["input_usd_per_million"]) == (model.ref, "0.1")
