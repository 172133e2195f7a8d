"""The cost in the usage of those who ask for it, to the last digit."""

import json

import httpx
import pytest

from kindling_gateway import chat

INPUT, CACHED_INPUT, OUTPUT = 100_000, 50_000, 400_000
COST = "0.000002150000"  # 4 fresh tokens, 3 cached ones, 4 of output
LINES = [
    {"kind": "input", "tokens": 4, "price_per_token_picousd": str(INPUT), "cost_usd": "0.000000400000"},
    {
        "kind": "cached_input",
        "tokens": 3,
        "price_per_token_picousd": str(CACHED_INPUT),
        "cost_usd": "0.000000150000",
    },
    {"kind": "output", "tokens": 4, "price_per_token_picousd": str(OUTPUT), "cost_usd": "0.000001600000"},
]


@pytest.fixture(autouse=True)
def cached(scene):
    scene.engine.behaviour.cached_tokens = 3


def test_a_whole_answer(http: httpx.Client, scene):
    usage = http.post("/v1/chat/completions", json=chat(max_tokens=4, include_cost=True)).json()["usage"]
    assert (usage["cost_usd"], usage["cost_lines"], usage["completion_tokens"]) == (COST, LINES, 4)
    assert "include_cost" not in scene.engine.received[0].body


def test_a_stream_has_its_usage_then(http: httpx.Client):
    body = chat(max_tokens=4, include_cost=True, stream=True)
    blocks = http.post("/v1/chat/completions", json=body).text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]
    assert chunks[-1]["usage"]["cost_lines"] == LINES
    assert chunks[-1]["usage"]["cost_usd"] == COST
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "w1 w2 w3 w4 "


def test_embeddings(http: httpx.Client):
    usage = http.post(
        "/v1/embeddings", json={"model": "kindling/words", "input": "a", "include_cost": True}
    ).json()["usage"]
    assert usage["cost_usd"] == "0.000000700000"


def test_nobody_else_gets_it(http: httpx.Client, scene):
    for body in (chat(), chat(include_cost=False)):
        assert "cost_usd" not in http.post("/v1/chat/completions", json=body).json()["usage"]
        assert "include_cost" not in scene.engine.received[-1].body


def test_a_value_that_is_none(http: httpx.Client):
    reply = http.post("/v1/chat/completions", json=chat(include_cost="yes"))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "include_cost")
    twice = b'{"include_cost": true, "model": "kindling/words", "model": "kindling/words"}'
    assert http.post("/v1/chat/completions", content=twice).json()["error"]["code"] == "invalid_json"


def reasoning_model(scene, picousd: int) -> str:
    """A model of its own whose reasoning has a price of its own."""
    model = scene.new_model(scene.engine.url)
    name = model.partition("/")[2]
    scene.world.execute("UPDATE gateway_model SET reasoning_picousd = %s WHERE name = %s", picousd, name)
    return model


def test_reasoning_has_a_line_of_its_own_at_its_own_price(http: httpx.Client, scene):
    scene.engine.behaviour.reasoning_tokens = 3
    models = {"kindling/words": OUTPUT, reasoning_model(scene, 3 * OUTPUT): 3 * OUTPUT}
    for model, price in models.items():
        body = chat(model, max_tokens=4, include_cost=True)
        usage = http.post("/v1/chat/completions", json=body).json()["usage"]
        told = {
            line["kind"]: (line["tokens"], line["price_per_token_picousd"]) for line in usage["cost_lines"]
        }
        assert (told["reasoning"], told["output"]) == ((3, str(price)), (1, str(OUTPUT)))
        cost = 4 * INPUT + 3 * CACHED_INPUT + 3 * price + OUTPUT
        assert usage["cost_usd"] == f"0.{cost:012d}"


def test_what_is_set_aside_covers_an_answer_of_reasoning_alone(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.park_s = 400, 0.05
    scene.engine.behaviour.reasoning_tokens = 400
    for price in (OUTPUT, 3 * OUTPUT):
        model = reasoning_model(scene, price)
        body = chat(model, max_tokens=300, max_cost="0.000120")
        reply = http.post("/v1/chat/completions", json=body)
        made = reply.json()["usage"]["completion_tokens"]
        assert reply.headers["x-kindling-max-tokens"] == str(made)
        assert 7 * INPUT + made * price <= 120 * 10**6 < (made + 1) * price + 400 * INPUT
