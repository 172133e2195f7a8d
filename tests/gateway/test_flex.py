"""`service_tier: flex`: the price of batch work for whoever can wait, within the limits of everybody."""

import json

import httpx
import openai
import pytest

from kindling_batches import begin, ended, request
from kindling_billing.limits import Limits
from kindling_gateway import (
    BATCH_PERCENT,
    INPUT,
    OUTPUT,
    GatewayServer,
    chat,
    eventually,
    held_nano,
    limit_row,
)
from kindling_platform.gateway.errand import BATCH_PRIORITY
from kindling_platform.gateway.surface.batches import call
from kindling_platform.gateway.surface.batches.job import LINES_AT_ONCE
from kindling_spools import shipped_one

FULL = 7 * INPUT + 8 * OUTPUT
PATHS = {
    "/v1/chat/completions": chat(),
    "/v1/completions": {"model": "kindling/words", "prompt": "One", "max_tokens": 8},
    "/v1/responses": {"model": "kindling/words", "input": "One", "max_output_tokens": 8},
}


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_it_costs_what_batch_work_does_and_comes_behind_others(
    http: httpx.Client, scene, path: str, stream: bool
):
    answer = http.post(path, json=PATHS[path] | {"service_tier": "flex", "stream": stream})
    assert (answer.status_code, answer.headers.get("x-kindling-ignored")) == (200, None)
    received = scene.engine.received[-1]
    assert (received.headers["x-kindling-priority"], "service_tier" in received.body) == (
        BATCH_PRIORITY,
        False,
    )
    request_id = answer.headers["x-request-id"]
    row = eventually(lambda: shipped_one(scene.world, request_id))
    assert json.loads(row.record.context)["batch"] is True


def test_a_response_says_its_tier(http: httpx.Client):
    body = PATHS["/v1/responses"]
    assert http.post("/v1/responses", json=body | {"service_tier": "flex"}).json()["service_tier"] == "flex"
    answer = http.post("/v1/responses", json=body | {"service_tier": "priority"})
    assert (answer.json()["service_tier"], answer.headers["x-kindling-ignored"]) == (
        "default",
        "service_tier",
    )


def test_its_cost_is_told_at_that_price(http: httpx.Client):
    answer = http.post("/v1/chat/completions", json=chat(service_tier="flex", include_cost=True))
    assert answer.json()["usage"]["cost_usd"] == f"0.{FULL * BATCH_PERCENT // 100:012d}"
    answer = http.post("/v1/chat/completions", json=chat(service_tier="default", include_cost=True))
    assert answer.json()["usage"]["cost_usd"] == f"0.{FULL:012d}"


@pytest.mark.parametrize("tier", ["auto", "default", "priority", None, 7, "FLEX"])
def test_every_other_tier_is_the_engines_business_and_pays_in_full(http: httpx.Client, scene, tier):
    answer = http.post("/v1/chat/completions", json=chat(service_tier=tier))
    received = scene.engine.received[-1]
    assert (received.body["service_tier"], received.headers["x-kindling-priority"]) == (tier, "0")
    row = eventually(lambda: shipped_one(scene.world, answer.headers["x-request-id"]))
    assert "batch" not in json.loads(row.record.context)


def test_embeddings_have_no_tier(http: httpx.Client, scene):
    http.post("/v1/embeddings", json={"model": "kindling/words", "input": "a", "service_tier": "flex"})
    assert scene.engine.received[-1].body["service_tier"] == "flex"  # and the engine refuses it
    assert scene.engine.received[-1].headers["x-kindling-priority"] == "0"


def test_of_a_batchs_limits_those_of_money_remain():
    limits = Limits(1, 2, 3, 4, 5, budget_day_nano=6, budget_month_nano=7, budget_total_nano=8)
    assert limits.money_only() == Limits(budget_day_nano=6, budget_month_nano=7, budget_total_nano=8)


def test_a_batch_whose_key_has_changed_is_still_bound_by_no_rates(
    server: GatewayServer, client, scene, monkeypatch: pytest.MonkeyPatch
):
    """The gateway hears of the change only when it asks Valkey whether a request may go."""
    monkeypatch.setattr(call, "ROOM_S", 3600.0)  # one that is refused stays so
    key = scene.world.key(scene.customer, limits=[limit_row("key", generated_tokens_per_minute=8)])
    limited = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    limited.chat.completions.create(**chat())  # which uses up the minute
    [(key_id, digest)] = scene.world.rows(
        "SELECT key_id, digest FROM gateway_key WHERE org_id = %s AND limits <> '[]'", scene.customer.id
    )
    scene.engine.behaviour.held_at = 1
    made = begin(limited, [request(n) for n in range(LINES_AT_ONCE + 1)])
    eventually(lambda: len(scene.engine.active) == LINES_AT_ONCE)
    scene.world.execute("UPDATE gateway_key SET epoch = 2 WHERE digest = %s", digest)
    scene.valkey.set(f"kd:epoch:{key_id}", 2, ex=60)
    scene.engine.behaviour.held_at = None
    assert ended(client, made).request_counts.completed == LINES_AT_ONCE + 1
    part = -(-(FULL * BATCH_PERCENT // 100) // 1000)
    expected = sorted([-(-FULL // 1000), *[part] * (LINES_AT_ONCE + 1)])
    eventually(lambda: sorted(held_nano(scene.valkey, scene.customer).values()) == expected)


def test_rates_bind_it(server: GatewayServer, scene):
    key = scene.world.key(scene.customer, limits=[limit_row("key", requests_per_minute=1)])
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)
    client.chat.completions.create(**chat(service_tier="flex"))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**chat(service_tier="flex"))
