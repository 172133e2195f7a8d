"""Rolling grants: small holds that grow with the answer, and end it when the money does."""

import math
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from kindling_gateway import USD, chat, eventually, held_nano

INPUT, OUTPUT = 100_000, 400_000


def pico(scene, amount: int) -> None:
    """Set the customer's balance before its first call."""
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = %s WHERE org_id = %s", amount, scene.customer.id
    )


def prompt_bound(body: bytes) -> int:
    return (len(body) + 64 + 16) * INPUT


def made(reply: httpx.Response) -> int:
    return reply.text.count('"finish_reason":null')


def test_a_long_stream_asks_for_more_and_gets_it(http: httpx.Client, scene):
    scene.engine.behaviour.tokens = 1300
    reply = http.post("/v1/chat/completions", json=chat(stream=True, max_tokens=1400))
    assert made(reply) == 1300
    assert scene.engine.received[0].headers["x-kindling-grant"] == "512"
    assert [tokens for _, tokens in scene.engine.grants] == [1024, 1400]
    assert ": grant" not in reply.text
    assert scene.engine.records[0]["finish"] == "stop"


def test_a_short_limit_is_granted_at_once(http: httpx.Client, scene):
    http.post("/v1/chat/completions", json=chat(stream=True, max_tokens=100))
    assert scene.engine.received[0].headers["x-kindling-grant"] == "100"
    assert scene.engine.grants == []


def test_without_a_limit_the_context_is_the_limit(http: httpx.Client, scene):
    body = chat()
    del body["max_tokens"]
    http.post("/v1/chat/completions", json=body)
    http.post("/v1/chat/completions", json=body | {"stream": True})
    assert [got.headers["x-kindling-grant"] for got in scene.engine.received] == ["512", "512"]
    assert scene.engine.looks == []  # what ends soon is not asked about


def test_a_long_whole_answer_asks_for_more_and_gets_it(http: httpx.Client, scene):
    scene.engine.behaviour.tokens = 1300
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=1400))
    assert reply.json()["usage"]["completion_tokens"] == 1300
    assert scene.engine.received[0].headers["x-kindling-grant"] == "512"
    assert [tokens for _, tokens in scene.engine.grants] == [1024, 1400]
    assert scene.engine.records[0]["finish"] == "stop"


def test_a_whole_answer_stops_where_the_money_does(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.park_s = 2000, 0.6
    request = http.build_request("POST", "/v1/chat/completions", json=chat(max_tokens=2000))
    pico(scene, prompt_bound(request.content) + 700 * OUTPUT)
    reply = http.send(request)
    assert (reply.status_code, reply.headers["x-kindling-limited-by"]) == (200, "credit")
    assert [tokens for _, tokens in scene.engine.grants] == [700]
    assert (scene.engine.records[0]["finish"], scene.engine.records[0]["completion_tokens"]) == (
        "grant_refused",
        700,
    )


def test_a_running_whole_answer_holds_its_grant_and_no_more(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.held_at = 40, 20
    request = http.build_request("POST", "/v1/chat/completions", json=chat(max_tokens=3000))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(http.send, request)
        held = eventually(lambda: held_nano(scene.valkey, scene.customer))
        scene.engine.behaviour.held_at = None
        assert asked.result().status_code == 200
    assert list(held.values()) == [(prompt_bound(request.content) + 512 * OUTPUT) // 1000]


def test_an_engine_that_cannot_be_asked_ends_at_its_grant(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.park_s = 1300, 0.5
    scene.engine.behaviour.deaf = math.inf
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=1400))
    assert reply.json()["usage"]["completion_tokens"] == 512
    assert scene.engine.grants == []


@pytest.mark.parametrize("answers", [1, 2])
def test_an_engine_that_still_reads_the_body_is_asked_again(http: httpx.Client, scene, answers: int):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 1300, 0.0005
    scene.engine.behaviour.deaf = 3
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=1400, n=answers))
    assert reply.json()["usage"]["completion_tokens"] == 1300
    assert len(scene.engine.looks) > 3 and scene.engine.grants


def test_every_answer_is_granted_for(http: httpx.Client, scene):
    scene.engine.behaviour.park_s = 0.5
    http.post("/v1/chat/completions", json=chat(max_tokens=100, n=3))
    plain = {"model": chat()["model"], "prompt": ["Once", "Twice"], "max_tokens": 50}
    http.post("/v1/completions", json=plain | {"best_of": 4, "n": 2})
    http.post("/v1/completions", json=plain | {"max_tokens": 0, "echo": True})
    http.post("/v1/completions", json={"model": chat()["model"], "prompt": "Once", "n": 2.0})
    http.post("/v1/chat/completions", json=chat(stream=True, max_tokens=400, n=2))
    wide = chat(n=10**30) | {"prompt": ["x"] * 500}
    http.post("/v1/chat/completions", json=wide | {"max_tokens": 1})
    grants = [got.headers["x-kindling-grant"] for got in scene.engine.received]
    assert grants == ["300", "400", "2", "32", "512", "128"]


def test_the_hold_covers_every_answer(http: httpx.Client, scene):
    request = http.build_request("POST", "/v1/chat/completions", json=chat(max_tokens=100, n=4))
    pico(scene, prompt_bound(request.content) + 250 * OUTPUT)
    http.send(request)
    assert scene.engine.received[0].headers["x-kindling-grant"] == "250"


def test_a_stream_stops_where_the_money_does(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.park_s = 2000, 0.2
    request = http.build_request("POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=2000))
    pico(scene, prompt_bound(request.content) + 700 * OUTPUT)
    reply = http.send(request)
    assert reply.status_code == 200
    assert made(reply) == 701  # 700 words and the last, empty one that ends a refused grant
    assert [tokens for _, tokens in scene.engine.grants] == [700]
    assert scene.engine.records[0]["finish"] == "grant_refused"
    assert scene.engine.records[0]["completion_tokens"] == 700


@pytest.mark.parametrize("stream", [False, True])
def test_the_last_cents_buy_a_short_answer(http: httpx.Client, scene, stream: bool):
    scene.engine.behaviour.park_s = 0.05
    request = http.build_request("POST", "/v1/chat/completions", json=chat(stream=stream, max_tokens=300))
    pico(scene, prompt_bound(request.content) + 5 * OUTPUT + OUTPUT // 2)
    assert http.send(request).status_code == 200
    assert scene.engine.received[0].headers["x-kindling-grant"] == "5"


def test_less_than_one_token_is_refused(http: httpx.Client, scene):
    request = http.build_request("POST", "/v1/chat/completions", json=chat())
    pico(scene, prompt_bound(request.content) + OUTPUT - 1000)
    assert http.send(request).status_code == 402
    assert scene.engine.received == []


def test_a_revoked_key_gets_no_further_grant(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.008
    scene.engine.behaviour.park_s = 0.2
    with http.stream("POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=2000)) as reply:
        lines = reply.iter_lines()
        next(lines)
        scene.world.execute("UPDATE gateway_key SET revoked = true WHERE org_id = %s", scene.customer.id)
        for _ in lines:
            pass
    assert scene.engine.grants == []
    assert scene.engine.records[0]["completion_tokens"] == 512


def test_a_running_stream_holds_its_grant_and_no_more(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.held_at = 40, 20
    request = http.build_request("POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=3000))
    reply = http.send(request, stream=True)
    held = eventually(lambda: held_nano(scene.valkey, scene.customer))
    scene.engine.behaviour.held_at = None
    reply.read()
    bound = prompt_bound(request.content) + 512 * OUTPUT
    assert list(held.values()) == [bound // 1000]
    assert bound < USD
