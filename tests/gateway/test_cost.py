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
