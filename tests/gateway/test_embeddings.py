"""Embeddings through the gateway: the same door and the same money as completions, for input alone."""

import base64
import json
from contextlib import closing
from pathlib import Path

import httpx
import openai
import pytest

from kindling_engine_process import EngineProcess
from kindling_gateway import GatewayServer, eventually, held_nano, send
from kindling_platform.gateway.ask import parse_ask
from kindling_platform.gateway.events import usage_of_body
from kindling_tiny_encoders import encoder_make

BODY = {"model": "kindling/words", "input": ["Hello!", "Goodbye!"]}
INPUT = 100_000
PICO_PER_NANO = 1000


@pytest.mark.parametrize("prefix", ["/v1", "/inference/v1", "/{own}/v1"])
def test_every_prefix_leads_to_the_engine(http: httpx.Client, scene, prefix: str):
    reply = http.post(f"{prefix.format(own=scene.customer.slug)}/embeddings", json=BODY)
    assert reply.status_code == 200, reply.text
    assert [one["index"] for one in reply.json()["data"]] == [0, 1]
    (got,) = scene.engine.received
    assert got.path == "/v1/embeddings"
    assert reply.headers["x-request-id"] == got.id
    assert got.headers["x-kindling-tenant"] == scene.customer.id
    assert "x-kindling-grant" not in got.headers


def test_the_input_alone_is_held_and_then_its_cost(http: httpx.Client, scene):
    scene.engine.behaviour.prompt_tokens = 1_000
    assert http.post("/v1/embeddings", json=BODY).status_code == 200
    (request_id,) = (one.id for one in scene.engine.received)
    cost = {request_id: 1_000 * INPUT // PICO_PER_NANO}
    eventually(lambda: held_nano(scene.valkey, scene.customer) == cost)


def test_what_is_held_covers_every_text_and_no_output(server: GatewayServer, scene):
    scene.engine.behaviour.first_delay_s = 60
    texts = ["a" * 5_000] * 3  # each of them longer than the context's 4,096 tokens
    with closing(send(server.url, scene.key, BODY | {"input": texts}, path="/v1/embeddings")):
        (held,) = eventually(lambda: held_nano(scene.valkey, scene.customer)).values()
    assert held == 3 * 4096 * INPUT // PICO_PER_NANO
    # Lest its record comes in while the next test looks for its own.
    eventually(lambda: scene.engine.records)


def test_a_client_that_leaves_is_cancelled_and_keeps_its_hold(server: GatewayServer, scene):
    scene.engine.behaviour.first_delay_s = 60
    with closing(send(server.url, scene.key, BODY, path="/v1/embeddings")):
        eventually(lambda: scene.engine.active)
    (record,) = eventually(lambda: scene.engine.records)
    assert (record["finish"], record["completion_tokens"]) == ("cancelled", 0)
    assert set(held_nano(scene.valkey, scene.customer)) == {record["request_id"]}


def test_without_credit_it_is_refused(server: GatewayServer, scene):
    poor = scene.world.org("poor-embedder", usd=0)
    with server.client(scene.world.key(poor)) as client:
        reply = client.post("/v1/embeddings", json=BODY)
    assert (reply.status_code, reply.json()["error"]["code"]) == (402, "insufficient_credit")
    assert scene.engine.received == []
    assert held_nano(scene.valkey, poor) == {}


def test_without_a_key_or_a_model_it_is_refused(server: GatewayServer, http: httpx.Client, scene):
    assert httpx.post(f"{server.url}/v1/embeddings", json=BODY, timeout=60).status_code == 401
    assert http.post("/v1/embeddings", json=BODY | {"model": "kindling/none"}).status_code == 404
    assert http.get("/v1/embeddings").status_code == 405
    assert scene.engine.received == []


def test_an_engines_refusal_costs_nothing(http: httpx.Client, scene):
    scene.engine.behaviour.fail_status = 400
    scene.engine.behaviour.fail_code = "not_an_embedding_model"
    reply = http.post("/v1/embeddings", json=BODY)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "not_an_embedding_model")
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_a_connection_cut_before_the_answer_is_tried_again(http: httpx.Client, scene):
    scene.engine.behaviour.cut_before_first = 1
    assert http.post("/v1/embeddings", json=BODY).status_code == 200
    first, second = (one.id for one in scene.engine.received)
    assert first != second
    eventually(lambda: set(held_nano(scene.valkey, scene.customer)) == {second})


def test_the_official_client(server: GatewayServer, scene):
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)
    reply = client.embeddings.create(model="kindling/words", input=["one", "two"], encoding_format="float")
    assert [one.embedding for one in reply.data] == [[0.6, 0.8], [0.6, 0.8]]
    assert reply.usage.total_tokens == 7


def test_a_body_says_how_many_texts_it_holds():
    assert parse_ask(b'{"model":"m","input":["a","b","c"]}').texts == 3
    assert parse_ask(b'{"model":"m","input":[[1,2],[3]]}').texts == 2
    for one in (b'"a"', b"[1,2,3]", b"[]", b"5", b"null"):
        assert parse_ask(b'{"model":"m","input":' + one + b"}").texts == 1


def test_the_counts_are_found_behind_large_vectors():
    vectors = base64.b64encode(bytes(3_000)).decode()
    body = f'{{"data":[{{"embedding":"{vectors}"}}],"usage":{{"prompt_tokens":9,"total_tokens":9}}}}'
    found = usage_of_body(body.encode())
    assert found is not None
    assert (found.prompt_tokens, found.cached_tokens, found.completion_tokens) == (9, 0, 0)
    text = '{"usage":{"prompt_tokens":4},"text":"say \\"usage\\":{\\"prompt_tokens\\":7}"}'
    found = usage_of_body(text.encode())
    assert found is not None
    assert found.prompt_tokens == 4
    assert usage_of_body(b'{"usage":') is None


def test_a_whole_call_from_the_client_to_the_engines_log(server: GatewayServer, scene, tmp_path: Path):
    model = encoder_make("bert", tmp_path / "model")
    (tmp_path / "engine").mkdir()
    with EngineProcess(tmp_path / "engine", model=model, ref="kindling/vectors") as engine:
        ref = scene.new_model(engine.url)
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)
        reply = client.embeddings.create(model=ref, input=["w5 w6", "w7"], dimensions=12)
        (record,) = engine.records()
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=ref, messages=[{"role": "user", "content": "w5"}])
        assert refused.value.code == "not_a_generation_model"
        assert len(engine.records()) == 1
    assert [len(one.embedding) for one in reply.data] == [12, 12]
    assert all(abs(sum(x * x for x in one.embedding) - 1) < 1e-5 for one in reply.data)
    assert reply.usage.prompt_tokens == record.prompt_tokens == 7
    assert (record.completion_tokens, record.finish, record.tenant) == (0, "stop", scene.customer.id)
    assert json.loads(record.context)["price"] == "prc_1"
    cost = {record.request_id: 7 * INPUT // PICO_PER_NANO}
    eventually(lambda: held_nano(scene.valkey, scene.customer) == cost)
