"""The control API's list of models: its filters are the catalog's, its speeds are those that the caller may see."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kindling_people import Customer, make_customer, make_model, make_price
from kindling_platform.accounts.models import Membership
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.deployments.speeds import WINDOW, speeds_measure
from kindling_speeds import answer

pytestmark = pytest.mark.django_db


@pytest.fixture
def models(operator: Customer, ada: Customer) -> dict[str, Model]:
    """A public model that is warm, a public one for embeddings without a price, and one of Ada's alone."""
    warm = make_model(operator, "words")
    silent = make_model(operator, "vectors", priced=False)
    own = make_model(ada, "own", is_public=False)
    facts = {
        "task": "embed",
        "chat_ready": False,
        "lora_ready": False,
        "licence": "MIT",
        "parameters": 4 * 10**9,
    }
    Model.objects.filter(id=silent.id).update(**facts)
    Model.objects.filter(id=own.id).update(context_length=131_072, parameters=70 * 10**9)
    running = Deployment.objects.create(organisation=operator.org, model=warm, name="words")
    Replica.objects.create(
        deployment=running,
        name="words-0",
        generation=1,
        state="ready",
        url="http://127.0.0.1:9",
        ready_at=now(),
    )
    return {"words": warm, "vectors": silent, "own": own}


def names(customer: Customer, query: str = "") -> list[str]:
    reply = customer.client("read").call("GET", f"models{query}")
    assert reply.status_code == 200, reply.content
    return [row["name"] for row in reply.json()["data"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["own", "vectors", "words"]), ("?q=WORDS", ["words"]), ("?task=chat", ["own", "words"]),
        ("?task=rerank", ["vectors"]), ("?size=4-10", ["vectors"]), ("?context=100000", ["own"]),
        ("?price_max=0.40", ["own", "words"]), ("?price_max=0.39", []), ("?licence=mit", ["vectors"]),
        ("?lora=true", ["own", "words"]), ("?lora=false", ["own", "vectors", "words"]), ("?warm=1", ["words"]),
        ("?sort=context", ["own", "vectors", "words"]), ("?sort=newest", ["own", "vectors", "words"]),
        ("?warm=1&task=embeddings", []), ("?q=&task=&sort=", ["own", "vectors", "words"]),
    ],
)  # fmt: skip
def test_filters(ada: Customer, models: dict[str, Model], query: str, found: list[str]):
    assert names(ada, query) == found


def test_another_organisations_model_is_found_by_no_filter(
    ada: Customer, bob: Customer, models: dict[str, Model]
):
    assert names(ada, "?q=own&size=70-70") == ["own"]
    assert names(bob, "?q=own&size=70-70") == []
    assert names(bob) == ["vectors", "words"]
    hers = f"models/{ada.org.slug}/own"
    assert bob.client("read").call("GET", hers).status_code == 404


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("task=talk", "task"), ("size=4", "size"), ("context=4k", "context"), ("price_max=much", "price_max"),
        ("lora=maybe", "lora"), ("warm=2", "warm"), ("sort=size", "sort"),
        (f"q={'x' * 81}", "q"), ("licence=%00", "licence"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_read_is_refused_by_name(ada: Customer, query: str, param: str):
    reply = ada.client("read").call("GET", f"models?{query}")
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "parameter_invalid", param)


def test_a_model_says_what_it_can_be_asked_for(ada: Customer, models: dict[str, Model]):
    rows = {row["name"]: row for row in ada.client("read").call("GET", "models").json()["data"]}
    assert rows["words"]["tasks"] == ["chat", "completions"] and rows["words"]["is_warm"] is True
    assert rows["vectors"]["tasks"] == ["embeddings", "rerank"] and rows["vectors"]["is_warm"] is False
    assert rows["vectors"]["price"] is None and rows["words"]["price"]["output_usd_per_million"] == "0.40"
    one = ada.client("read").call("GET", "models/kindling/words").json()
    assert one == rows["words"]
    assert one["speed"] is None


def test_speeds_have_a_scope_a_window_and_samples(ada: Customer, bob: Customer, models: dict[str, Model]):
    words = models["words"]
    running = Deployment.objects.get(model=words)
    answer(ada, words, [200] * 120, by=running)
    speeds_measure()

    def speed(customer: Customer) -> dict | None:
        return customer.client("read").call("GET", "models?q=words").json()["data"][0]["speed"]

    hers = speed(ada)
    assert hers is not None
    assert hers["scope"] == "organisation"
    assert hers["duration_ms"] == {"p50": 200, "p95": 200, "samples": 120}
    assert hers["first_token_ms"] == {"p50": 10, "p95": 10, "samples": 120}
    assert hers["tokens_per_s"]["p50"] == round(4000 / 190, 1)
    assert hers["window_end"] > hers["window_start"] > str((now() - WINDOW * 2).date())
    assert speed(bob) is None
    for customer in (bob, make_customer("cleo")):
        answer(customer, words, [400] * 47, by=running)
    speeds_measure()
    his = speed(bob)
    assert his is not None
    assert (his["scope"], his["duration_ms"]["p50"], his["duration_ms"]["samples"]) == ("all", 200, 210)
    assert speed(ada) == his


def test_roles_that_read_models_read_their_speeds(ada: Customer, models: dict[str, Model]):
    answer(ada, models["own"], [200] * 30)
    speeds_measure()
    for role in ("viewer", "billing", "developer"):
        Membership.objects.filter(user=ada.user).update(role=role)
        row = ada.browser().call("GET", "models?q=own").json()["data"][0]
        assert row["speed"]["scope"] == "organisation", role
    assert ada.client("inference").call("GET", "models").status_code == 403


def test_the_list_costs_as_many_queries_for_any_number(
    ada: Customer, operator: Customer, models: dict[str, Model]
):
    client = ada.client("read")

    def look() -> tuple[int, int]:
        with CaptureQueriesContext(connection) as seen:
            rows = client.call("GET", "models?sort=price").json()["data"]
        return len(seen), len(rows)

    look()  # the key's first use is written down
    few, three = look()
    for number in range(4):
        make_price(make_model(operator, f"more-{number}", priced=False), operator.actor)
    assert (three, look()) == (3, (few, 7))
