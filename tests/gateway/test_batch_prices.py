"""What batch work costs where several prices meet: a plan's, one of reasoning's own, nothing at all, all of it."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from kindling_billing.rating import Price, Used, usage_rate
from kindling_gateway import BATCH_PERCENT, INPUT, OUTPUT, chat, eventually, held_nano, limit_row
from kindling_spools import Shipped, shipped_one

PLAN = Price(301, 101, 701, reasoning=1303)
USED = Used(prompt_tokens=7, cached_tokens=3, completion_tokens=8, reasoning_tokens=5)


def on_plan(scene, percent: int) -> Price:
    """The customer's plan, with a price of reasoning and that much of it for batch work."""
    scene.world.execute(
        "INSERT INTO gateway_plan_price VALUES (%s, %s, 'prv_plan', %s, %s, %s, %s, %s)",
        scene.customer.id, scene.model_id, PLAN.input, PLAN.cached_input, PLAN.output, PLAN.reasoning, percent,
    )  # fmt: skip
    how = scene.engine.behaviour
    how.prompt_tokens, how.cached_tokens, how.tokens, how.reasoning_tokens = USED[:4]
    return Price(PLAN.input, PLAN.cached_input, PLAN.output, reasoning=PLAN.reasoning, batch_percent=percent)


def ask(http: httpx.Client, **fields: Any) -> httpx.Response:
    return http.post("/v1/chat/completions", json=chat(include_cost=True, **fields))


def shipped(scene, answer: httpx.Response) -> Shipped:
    return eventually(lambda: shipped_one(scene.world, answer.headers["x-request-id"]))


@pytest.mark.parametrize("percent", [0, 33, 100])
def test_a_plans_prices_of_batch_work_are_told_held_and_charged(http: httpx.Client, scene, percent: int):
    price = on_plan(scene, percent)
    answer = ask(http, service_tier="flex")
    lines = usage_rate(price, USED._replace(batch=True))
    cost = sum(line.amount_picousd for line in lines)
    usage = answer.json()["usage"]
    told = [(line["tokens"], int(line["price_per_token_picousd"])) for line in usage["cost_lines"]]
    assert told == [(line.quantity, line.unit_price_picousd) for line in lines]
    assert usage["cost_usd"] == f"0.{cost:012d}"
    eventually(lambda: list(held_nano(scene.valkey, scene.customer).values()) == [-(-cost // 1000)])
    context = json.loads(shipped(scene, answer).record.context)
    assert (context["price"], context["batch"]) == ("prv_plan", True)
    full = sum(line.amount_picousd for line in usage_rate(price, USED))
    assert ask(http).json()["usage"]["cost_usd"] == f"0.{full:012d}"
    assert {0: cost == 0, 33: 0 < cost < full, 100: cost == full}[percent]


def test_what_costs_nothing_needs_no_money(http: httpx.Client, scene):
    on_plan(scene, 0)
    scene.world.execute("UPDATE gateway_balance SET balance_picousd = 0 WHERE org_id = %s", scene.customer.id)
    assert ask(http).status_code == 402
    assert ask(http, service_tier="flex").json()["usage"]["cost_usd"] == f"0.{0:012d}"


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_changes_meanwhile_changes_no_price(http: httpx.Client, scene, stream: bool):
    """The gateway hears of it as it asks for the next tokens, and settles for the caller it has then."""
    scene.engine.behaviour.tokens, scene.engine.behaviour.held_at = 600, 100
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, http, service_tier="flex", stream=stream, max_tokens=700)
        eventually(lambda: [one.made for one in scene.engine.active.values()] == [100])
        [(key_id,)] = scene.world.rows(
            "UPDATE gateway_key SET epoch = 2, limits = %s WHERE org_id = %s RETURNING key_id",
            json.dumps([limit_row("key", generated_tokens_per_minute=5000)]),
            scene.customer.id,
        )
        scene.valkey.set(f"kd:epoch:{key_id}", 2, ex=60)
        scene.engine.behaviour.held_at = None
        answer = asked.result()
    assert [tokens for _, tokens in scene.engine.grants] == [700]
    cost = (7 * INPUT + 600 * OUTPUT) * BATCH_PERCENT // 100
    eventually(lambda: list(held_nano(scene.valkey, scene.customer).values()) == [-(-cost // 1000)])
    record = shipped(scene, answer).record
    assert (json.loads(record.context)["batch"], record.completion_tokens) == (True, 600)
