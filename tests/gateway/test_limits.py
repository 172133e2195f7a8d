"""Limits as a client meets them: headers on every answer, 429 with a time, budgets, bounds of a request's own."""

import httpx
import pytest

from kindling_billing.limits import Limits
from kindling_gateway import GatewayServer, chat, eventually, held_nano, limit_row, start_gateway
from kindling_platform.gateway.routes import METHODS, POST_PATHS, Action
from kindling_spools import billed, shipped

INPUT, OUTPUT = 100_000, 400_000
COST = 7 * INPUT + 8 * OUTPUT
PATHS = {action: path for path, action in POST_PATHS.items()} | {
    "models": "models",
    "model": "models/kindling/words",
    "response": "responses/resp_1",
    "response_items": "responses/resp_1/input_items",
    "response_cancel": "responses/resp_1/cancel",
    "files": "files",
    "file": "files/file-1",
    "file_content": "files/file-1/content",
    "batches": "batches",
    "batch": "batches/batch_1",
    "batch_cancel": "batches/batch_1/cancel",
    "message_batches": "messages/batches",
    "message_batch": "messages/batches/msgbatch_1",
    "message_batch_cancel": "messages/batches/msgbatch_1/cancel",
    "message_batch_results": "messages/batches/msgbatch_1/results",
}
BODIES = {
    "rerank": {"model": "kindling/words", "query": "a", "documents": ["b"]},
    "embedding": {"model": "kindling/words", "input": "a"},
    "responses": {"model": "kindling/words", "input": "a"},
    "detokenize": {"model": "kindling/words", "tokens": [1]},
    "count_tokens": {"model": "kindling/words", "messages": chat()["messages"]},
}


@pytest.fixture
def limited(scene, server: GatewayServer):
    """A client whose key has these limits."""

    def client(scope: str = "key", *, member: str | None = None, **limits: int) -> httpx.Client:
        return server.client(
            scene.world.key(scene.customer, limits=[limit_row(scope, **limits)], member=member)
        )

    return client


def test_headers_of_both_families_on_every_answer(limited):
    http = limited(requests_per_minute=60, generated_tokens_per_minute=1000, prompt_tokens_per_minute=10_000)
    for reply in (
        http.post("/v1/chat/completions", json=chat()),
        http.post("/v1/chat/completions", json=chat(stream=True)),
        http.get("/v1/models"),
    ):
        assert reply.status_code == 200, reply.text
        assert reply.headers["x-ratelimit-limit-requests"] == "60"
        # One comes back each second.
        assert int(reply.headers["x-ratelimit-remaining-requests"]) in range(7, 11)
        assert reply.headers["x-ratelimit-reset-requests"].endswith("s")
        assert reply.headers["x-ratelimit-limit-tokens-generated"] == "1000"
        assert int(reply.headers["x-ratelimit-remaining-tokens-generated"]) in range(976, 1001)
        assert reply.headers["x-ratelimit-limit-tokens-prompt"] == "10000"
        assert reply.headers["x-ratelimit-limit-tokens"] in ("1000", "10000")
        # The uncached prompt is bound by the organisation's default alone.
        assert reply.headers["x-ratelimit-limit-tokens-uncached"] == "20000000"


def test_of_several_scopes_that_with_the_least_left_is_told(scene, server: GatewayServer):
    """A bucket of requests holds ten seconds' worth, so an untouched organisation has a sixth of its limit left."""
    rows = [limit_row("key", requests_per_minute=30), limit_row("organisation", requests_per_minute=6000)]
    with server.client(scene.world.key(scene.customer, limits=rows)) as http:
        for _ in range(3):
            reply = http.post("/v1/chat/completions", json=chat())
            assert reply.status_code == 200, reply.text
            assert reply.headers["x-ratelimit-limit-requests"] == "30"
            assert int(reply.headers["x-ratelimit-remaining-requests"]) <= 29


def test_a_refusal_tells_when_to_come_back(limited):
    http = limited(requests_per_minute=6)
    for _ in range(6):
        assert http.post("/v1/chat/completions", json=chat()).status_code == 200
    reply = http.post("/v1/chat/completions", json=chat())
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (
        429,
        "rate_limit_exceeded",
        "rate_limit_error",
    )
    assert 1 <= int(reply.headers["retry-after"]) <= 10
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    assert "this API key" in error["message"]


def test_what_is_refused_counts_as_well(limited):
    http = limited(requests_per_minute=3)
    for content, status in ((b"{", 400), (b'{"model": "kindling/none"}', 404), (b'{"model": 5}', 400)):
        assert http.post("/v1/chat/completions", content=content).status_code == status
    reply = http.post("/v1/chat/completions", content=b"{")
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize("action", sorted(set(Action) - {Action.ROOT, Action.UNKNOWN}))
def test_every_route_counts_as_a_request(limited, action: Action):
    http = limited(requests_per_minute=1)
    assert http.get("/v1/models").status_code == 200
    body = BODIES.get(action, chat()) if "POST" in METHODS[action] else None
    reply = http.request(METHODS[action][0], f"/v1/{PATHS[action]}", json=body)
    assert reply.status_code == 429, reply.text


def test_a_member_is_bound_over_all_keys(scene, server: GatewayServer):
    rows = [limit_row("member", requests_per_minute=2)]
    keys = [scene.world.key(scene.customer, limits=rows, member="usr_1") for _ in range(2)]
    statuses = []
    for key in (*keys, *keys):
        with server.client(key) as http:
            statuses.append(http.post("/v1/chat/completions", json=chat()).status_code)
    assert statuses == [200, 200, 429, 429]


def test_what_was_really_used_is_counted(limited, scene):
    http = limited(prompt_tokens_per_minute=300)
    request = http.build_request("POST", "/v1/chat/completions", json=chat())
    assert 150 < len(request.content) + 80 < 300  # two of these do not fit, what they really use does
    for _ in range(4):
        assert eventually(lambda: http.post("/v1/chat/completions", json=chat()).status_code == 200)


def test_requests_at_once_are_leases(limited, scene):
    http = limited(concurrent_requests=1)
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 6000, 0.01
    request = http.build_request("POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=6000))
    running = http.send(request, stream=True)
    reply = http.post("/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
    running.close()
    scene.engine.behaviour.delay_s = 0
    eventually(lambda: http.post("/v1/chat/completions", json=chat()).status_code == 200)


def test_a_budget_ends_before_the_credit(limited, scene):
    http = limited(budget_day_picousd=40 * COST)
    scene.engine.behaviour.park_s = 0.5
    statuses = [http.post("/v1/chat/completions", json=chat()).status_code for _ in range(50)]
    refused = http.post("/v1/chat/completions", json=chat())
    assert statuses.count(200) < 40
    assert statuses[0] == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (402, "budget_exceeded")
    assert http.get("/v1/models").status_code == 200


def test_an_operators_defaults_bind_whoever_has_none(scene):
    defaults = Limits(requests_per_minute=3)
    with start_gateway(scene.world, limits=defaults) as server:
        own = scene.world.key(scene.customer, limits=[limit_row("organisation", requests_per_minute=9)])
        with server.client(scene.world.key(scene.world.org("defaulted"))) as http:
            assert [http.get("/v1/models").status_code for _ in range(4)] == [200, 200, 200, 429]
        with server.client(own) as http:
            assert http.get("/v1/models").headers["x-ratelimit-limit-requests"] == "9"
    with start_gateway(scene.world, limits=Limits()) as server, server.client(scene.key) as http:
        assert not [name for name in http.get("/v1/models").headers if name.startswith("x-ratelimit")]


def test_max_cost_bounds_an_answer(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.park_s = 100, 0.05
    plain = http.build_request("POST", "/v1/chat/completions", json=chat(max_tokens=50))
    usd = ((len(plain.content) + 80 + 30) * INPUT + 20 * OUTPUT) / 1e12
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=50, max_cost=f"{usd:.12f}"))
    made = reply.json()["usage"]["completion_tokens"]
    assert reply.json()["choices"][0]["finish_reason"] == "length"
    assert 20 <= made <= 30
    assert reply.headers["x-kindling-limited-by"] == "max_cost"
    assert reply.headers["x-kindling-max-tokens"] == str(made)
    assert "max_cost" not in scene.engine.received[0].body
    record = scene.engine.records[0]
    assert record["prompt_tokens"] * INPUT + record["completion_tokens"] * OUTPUT <= usd * 1e12


def test_max_cost_by_header_in_a_stream(http: httpx.Client, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.park_s = 100, 0.05
    headers = {"x-kindling-max-cost": "0.000040"}
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=90, stream=True), headers=headers)
    assert '"finish_reason":"length"' in reply.text
    assert reply.text.count('"limited_by":"max_cost"') == 1


def test_a_max_cost_below_the_prompt_reaches_no_engine(http: httpx.Client, scene):
    reply = http.post("/v1/chat/completions", json=chat(max_cost="0.000001"))
    assert (reply.status_code, reply.json()["error"]["code"]) == (402, "max_cost_exceeded")
    assert scene.engine.received == []
    assert held_nano(scene.valkey, scene.customer) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_ends_an_answer_where_it_is(http: httpx.Client, scene, stream: bool):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 4000, 0.01
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=4000, stream=stream, deadline_ms=1500))
    assert reply.status_code == 200
    record = scene.engine.records[0]
    assert record["finish"] == "length"
    assert 0 < record["completion_tokens"] < 4000
    if stream:
        assert reply.text.count('"limited_by":"deadline_ms"') == 1
    else:
        assert reply.headers["x-kindling-limited-by"] == "deadline_ms"
    cost = (7 * INPUT + record["completion_tokens"] * OUTPUT) // 1000
    eventually(lambda: list(held_nano(scene.valkey, scene.customer).values()) == [cost])


def test_a_deadline_before_there_is_an_engine_is_free(http: httpx.Client, scene):
    model = scene.new_model()  # nothing serves it
    reply = http.post("/v1/chat/completions", json=chat(model, deadline_ms=50))
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reply.headers["x-should-retry"] == "false"  # to clients that try again by themselves
    assert held_nano(scene.valkey, scene.customer) == {}


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_before_the_engine_has_begun_is_free(http: httpx.Client, scene, stream: bool):
    scene.engine.behaviour.first_delay_s = 0.5
    reply = http.post("/v1/chat/completions", json=chat(stream=stream, deadline_ms=100))
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reply.headers["x-should-retry"] == "false"
    (record,) = scene.engine.records
    eventually(lambda: record["request_id"] in shipped(scene.world))
    assert billed(shipped(scene.world), scene.engine.records)[record["request_id"]] == 0
    assert held_nano(scene.valkey, scene.customer) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_cost", 1),
        ("max_cost", "nan"),
        ("max_cost", "-1"),
        ("max_cost", "0"),
        ("max_cost", "1e-15"),
        ("max_cost", "9" * 50),
        ("deadline_ms", 0),
        ("deadline_ms", 1.5),
        ("deadline_ms", True),
        ("deadline_ms", "soon"),
        ("deadline_ms", 10**12),
    ],
)
def test_bounds_that_make_no_sense_are_refused(http: httpx.Client, scene, field: str, value):
    reply = http.post("/v1/chat/completions", json=chat(**{field: value}))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, field)
    assert scene.engine.received == []


def test_a_key_calls_only_what_it_lists(scene, server: GatewayServer):
    other = scene.new_model(scene.engine.url)
    with server.client(scene.world.key(scene.customer, models=[other])) as http:
        assert http.post("/v1/chat/completions", json=chat(other)).status_code == 200
        reply = http.post("/v1/chat/completions", json=chat())
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "model_not_allowed")
        assert [model["id"] for model in http.get("/v1/models").json()["data"]] == [other]


def test_a_revoked_key_is_known_at_once_where_valkey_tells(http: httpx.Client, scene):
    assert http.post("/v1/chat/completions", json=chat()).status_code == 200
    scene.world.execute(
        "UPDATE gateway_key SET revoked = true, epoch = 2 WHERE org_id = %s", scene.customer.id
    )
    key_id = scene.world.value("SELECT key_id FROM gateway_key WHERE org_id = %s", scene.customer.id)
    scene.valkey.set(f"kd:epoch:{key_id}", 2, ex=60)
    reply = http.post("/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "key_revoked")
