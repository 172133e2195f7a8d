"""The official `anthropic` client against the gateway and the fake engine: shapes, events, errors, money."""

import anthropic
import httpx
import pytest

from kindling_fake_engine import Behaviour, FakeEngine
from kindling_gateway import GatewayServer, eventually, held_nano

ASK = {"model": "kindling/words", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello!"}]}
INPUT, CACHED_INPUT, OUTPUT = 100_000, 50_000, 400_000


def client_of(server: GatewayServer, key: str, prefix: str = "") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url + prefix, api_key=key, max_retries=0)


@pytest.fixture
def client(server: GatewayServer, scene) -> anthropic.Anthropic:
    return client_of(server, scene.key)


def test_a_message(client: anthropic.Anthropic, scene):
    scene.engine.behaviour.cached_tokens = 3
    message = client.messages.create(**ASK, system="Be kind.")
    assert (message.type, message.role, message.model) == ("message", "assistant", "kindling/words")
    assert message.content[0].text == "w1 w2 w3 w4 w5 "
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 5)
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens) == (4, 3)
    (got,) = scene.engine.received
    assert got.path == "/v1/chat/completions"
    assert got.body["messages"][0] == {"role": "system", "content": "Be kind."}
    assert message.id == f"msg_{got.id}"
    assert message._request_id == got.id
    cost = 4 * INPUT + 3 * CACHED_INPUT + 5 * OUTPUT
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {got.id: cost // 1000})


@pytest.mark.parametrize("prefix", ["/inference", "/{own}"])
def test_other_prefixes_lead_to_the_same(server: GatewayServer, scene, prefix: str):
    client = client_of(server, scene.key, prefix.format(own=scene.customer.slug))
    assert client.messages.create(**ASK).content[0].text.startswith("w1 ")


def test_a_bearer_is_as_good_as_the_vendors_header(server: GatewayServer, scene):
    client = anthropic.Anthropic(base_url=server.url, api_key=None, auth_token=scene.key, max_retries=0)
    assert client.messages.create(**ASK).content


def test_a_stream(client: anthropic.Anthropic):
    with client.messages.stream(**ASK) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert final.content[0].text == "w1 w2 w3 w4 w5 "
    assert (final.stop_reason, final.usage.output_tokens, final.usage.input_tokens) == ("max_tokens", 5, 7)
    assert [events[0].type, events[-1].type] == ["message_start", "message_stop"]
    assert "".join(event.text for event in events if event.type == "text") == final.content[0].text


def test_the_first_words_arrive_before_the_next_are_made(client: anthropic.Anthropic, scene):
    scene.engine.behaviour.held_at = 1
    with client.messages.stream(**ASK) as stream:
        assert next(iter(stream.text_stream)) == "w1 "
        assert next(iter(scene.engine.active.values())).made == 1


def test_a_stream_that_breaks_ends_with_an_error_and_is_free(client: anthropic.Anthropic, scene):
    scene.engine.behaviour.cut_after = 2
    with pytest.raises(anthropic.APIStatusError) as cut, client.messages.stream(**ASK) as stream:
        stream.get_final_message()
    assert cut.value.body["error"]["type"] == "api_error"
    assert cut.value.body["request_id"] == scene.engine.received[-1].id
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_a_client_that_leaves_ends_the_request(client: anthropic.Anthropic, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.01
    with client.messages.stream(**(ASK | {"max_tokens": 3000})) as stream:
        next(iter(stream.text_stream))
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["finish"] == "cancelled"


def test_tokens_are_counted_and_cost_nothing(client: anthropic.Anthropic, scene):
    counted = client.messages.count_tokens(model="kindling/words", messages=ASK["messages"], system="s")
    assert counted.input_tokens == 7
    (got,) = scene.engine.received
    assert got.path == "/v1/chat/tokens"
    assert [message["role"] for message in got.body["messages"]] == ["system", "user"]
    assert scene.engine.records == []


def test_a_count_is_asked_of_a_replica_that_can(server: GatewayServer, scene):
    with FakeEngine(Behaviour(fail_status=503, fail_code="engine_unavailable")) as going:
        client = client_of(server, scene.key)
        for _ in range(4):  # whichever is asked first
            model = scene.new_model(going.url, scene.engine.url)
            counted = client.messages.count_tokens(model=model, messages=ASK["messages"])
            assert counted.input_tokens == 7
    with FakeEngine(Behaviour(fail_status=503, fail_code="overloaded")) as full:
        model = scene.new_model(full.url)
        with pytest.raises(anthropic.InternalServerError) as refused:
            client.with_options(max_retries=0).messages.count_tokens(model=model, messages=ASK["messages"])
    assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "1")


def test_errors_have_their_classes(server: GatewayServer, client: anthropic.Anthropic, scene):
    with pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(**(ASK | {"model": "kindling/none"}))
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert missing.value.request_id == missing.value.body["request_id"]
    with pytest.raises(anthropic.AuthenticationError):
        client_of(server, "nonsense").messages.create(**ASK)
    with pytest.raises(anthropic.BadRequestError) as bad:
        client.messages.create(**ASK, extra_body={"no_such_field": 1})
    assert "no_such_field" in bad.value.body["error"]["message"]
    assert scene.engine.received == []
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 503, "overloaded"
    with pytest.raises(anthropic.APIStatusError) as busy:
        client.messages.create(**ASK)
    assert (busy.value.status_code, busy.value.body["error"]["type"]) == (503, "overloaded_error")
    poor = scene.world.org("poor-anthropic", usd=0)
    with pytest.raises(anthropic.APIStatusError) as unpaid:
        client_of(server, scene.world.key(poor)).messages.create(**ASK)
    assert (unpaid.value.status_code, unpaid.value.body["error"]["type"]) == (402, "billing_error")


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_that_does_not_reason_answers_without(http: httpx.Client, scene, stream: bool):
    scene.engine.behaviour.refused_field = "reasoning_effort"
    asked = ASK | {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "stream": stream}
    reply = http.post("/v1/messages", json=asked | {"max_cost": "0.1"})
    assert reply.status_code == 200, reply.text
    assert reply.headers["x-kindling-ignored"] == "thinking,output_config.effort"
    assert [("reasoning_effort" in got.body) for got in scene.engine.received] == [True, False]
    assert not {"thinking", "max_cost"} & set(scene.engine.received[-1].body)
    (record,) = scene.engine.records
    cost = 7 * INPUT + 5 * OUTPUT
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {record["request_id"]: cost // 1000})


def test_its_tokens_are_counted_without(http: httpx.Client, scene):
    scene.engine.behaviour.refused_field = "thinking"
    asked = {name: ASK[name] for name in ("model", "messages")} | {"thinking": {"type": "adaptive"}}
    reply = http.post("/v1/messages/count_tokens", json=asked)
    assert (reply.status_code, reply.json()) == (200, {"input_tokens": 7})
    assert reply.headers["x-kindling-ignored"] == "thinking"


def test_what_else_an_engine_refuses_is_refused(http: httpx.Client, scene):
    scene.engine.behaviour.refused_field = "stop"
    reply = http.post("/v1/messages", json=ASK | {"thinking": {"type": "adaptive"}, "stop_sequences": ["x"]})
    assert reply.status_code == 400
    assert "x-kindling-ignored" not in reply.headers
    assert len(scene.engine.received) == 1
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


@pytest.mark.parametrize("path", ["/v1/messages/nothing", "/inference/v1/messages/batches/one/nothing"])
def test_paths_that_are_none_answer_in_the_same_shape(http: httpx.Client, path: str):
    reply = http.post(path, json={})
    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found_error")
    assert reply.json()["request_id"] == reply.headers["request-id"]


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_every_refusal_has_the_shape(http: httpx.Client, path: str):
    for reply in (
        http.get(path),
        http.post(path, content=b"{"),
        http.post(path, content=b"x" * 9_000_000),
        http.post(path, headers={"authorization": "Bearer x"}),
    ):
        body = reply.json()
        assert (body["type"], body["request_id"]) == ("error", reply.headers["x-request-id"])
        assert set(body["error"]) == {"type", "message"}
        assert reply.headers["request-id"] == reply.headers["x-request-id"]


def test_what_has_no_effect_is_named(http: httpx.Client):
    reply = http.post("/v1/messages", json=ASK | {"metadata": {"user_id": "u"}})
    assert reply.headers["x-kindling-ignored"] == "metadata"


def test_models_in_the_vendors_shape(client: anthropic.Anthropic):
    models = list(client.models.list())
    assert "kindling/words" in {model.id for model in models}
    one = client.models.retrieve("kindling/words")
    assert (one.type, one.display_name, one.max_input_tokens) == ("model", "kindling/words", 4096)
