"""Whole answers and streams, as a client sees them and as the engine got them."""

import json
from collections.abc import Iterator

import httpx
import pytest

from kindling_gateway import chat, eventually, held_nano

INPUT, CACHED_INPUT, OUTPUT = 100_000, 50_000, 400_000


def events(reply: httpx.Response) -> Iterator[dict | str]:
    for block in reply.text.split("\n\n"):
        if block.startswith("data: "):
            data = block.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def test_a_whole_answer_is_relayed_as_it_is(http: httpx.Client, scene):
    reply = http.post("/v1/chat/completions", json=chat(max_tokens=3))
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.json()["choices"][0]["message"]["content"] == "w1 w2 w3 "
    assert reply.json()["usage"]["completion_tokens"] == 3
    assert reply.headers["x-request-id"] == scene.engine.received[0].id


def test_completions_go_to_completions(http: httpx.Client, scene):
    reply = http.post("/v1/completions", json={"model": "kindling/words", "prompt": "Hi", "max_tokens": 2})
    assert reply.json()["choices"][0]["text"] == "w1 w2 "
    assert scene.engine.received[0].path == "/v1/completions"


@pytest.mark.parametrize("prefix", ["/v1", "/inference/v1", "/{own}/v1"])
def test_all_prefixes_lead_to_the_same(http: httpx.Client, scene, prefix: str):
    prefix = prefix.format(own=scene.customer.slug)
    assert http.post(f"{prefix}/chat/completions", json=chat()).status_code == 200
    assert http.get(f"{prefix}/models").status_code == 200
    assert http.get(prefix).status_code == 200


def test_what_a_client_says_about_its_cache_reaches_the_engine(http: httpx.Client, scene):
    said = {
        "X-Prompt-Cache-Isolation-Key": "k\u00fc".encode(),
        "X-Session-Affinity": b"s",
        "X-Kindling-Salt": b"mine",
    }
    assert http.post("/v1/chat/completions", json=chat(), headers=said).status_code == 200
    got = scene.engine.received[0].headers
    assert got["x-prompt-cache-isolation-key"].startswith("k")
    assert "x-session-affinity" not in got  # it has led here
    assert got["x-kindling-salt"] != "mine"


def test_the_engine_gets_the_body_untouched_and_what_it_has_to_know(http: httpx.Client, scene):
    raw = b'{ "model":"kindling/words","messages":[{"role":"user","content":"\\u00fc"}],'
    raw += b'"x":12345678901234567890123,"max_tokens":5}'
    assert http.post("/v1/chat/completions", content=raw).status_code == 200
    got = scene.engine.received[0]
    assert got.raw == raw
    assert got.headers["x-kindling-grant"] == "5"
    assert got.headers["x-kindling-tenant"] == scene.customer.id
    assert len(got.headers["x-kindling-salt"]) == 64
    context = json.loads(got.headers["x-kindling-context"])
    assert context == {
        "org": scene.customer.id,
        "key": context["key"],
        "model": scene.model_id,
        "name": "kindling/words",
        "adapter": "",
        "deployment": "dep_main",
        "price": "prc_1",
    }


def test_a_stream_ends_with_done_and_hides_usage(http: httpx.Client):
    reply = http.post("/v1/chat/completions", json=chat(stream=True, max_tokens=4))
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    seen = list(events(reply))
    assert seen[-1] == "[DONE]"
    assert all("usage" not in chunk for chunk in seen[:-1])
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in seen[:-1]) == "w1 w2 w3 w4 "
    assert seen[-2]["choices"][0]["finish_reason"] == "length"


def test_a_stream_shows_usage_when_asked(http: httpx.Client):
    body = chat(stream=True, stream_options={"include_usage": True})
    seen = list(events(http.post("/v1/chat/completions", json=body)))
    assert seen[-2]["choices"] == []
    assert seen[-2]["usage"]["completion_tokens"] == 8


def test_the_first_chunk_arrives_before_the_second_is_made(http: httpx.Client, scene):
    scene.engine.behaviour.held_at = 1
    with http.stream("POST", "/v1/chat/completions", json=chat(stream=True, max_tokens=3)) as reply:
        lines = reply.iter_lines()  # kept: an iterator that is dropped closes its stream
        assert '"w1 "' in next(lines)
        assert next(iter(scene.engine.active.values())).made == 1


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_holds_what_it_cost_until_it_is_posted(http: httpx.Client, scene, stream: bool):
    scene.engine.behaviour.cached_tokens = 3
    reply = http.post("/v1/chat/completions", json=chat(stream=stream, max_tokens=4))
    assert reply.status_code == 200
    cost = 4 * INPUT + 3 * CACHED_INPUT + 4 * OUTPUT
    wanted = {reply.headers["x-request-id"]: -(-cost // 1000)}
    eventually(lambda: held_nano(scene.valkey, scene.customer) == wanted)


def test_a_refusal_of_the_engine_is_relayed_and_free(http: httpx.Client, scene):
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 400, "unsupported_field"
    reply = http.post("/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unsupported_field")
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_a_failure_of_the_engine_is_502_and_free(http: httpx.Client, scene):
    scene.engine.behaviour.fail_status = 500
    reply = http.post("/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "upstream_failed")
    assert len(scene.engine.received) == 1
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_an_overloaded_engine_is_503_with_a_time_to_come_back(http: httpx.Client, scene):
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 503, "overloaded"
    reply = http.post("/v1/chat/completions", json=chat())
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    assert reply.headers["retry-after"] == "1"


def test_a_stream_cut_in_the_middle_ends_with_an_error_event_and_is_free(http: httpx.Client, scene):
    scene.engine.behaviour.cut_after = 3
    seen = list(events(http.post("/v1/chat/completions", json=chat(stream=True))))
    assert len(seen) == 4
    assert seen[-1]["error"]["code"] == "upstream_failed"
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})


def test_an_error_event_of_the_engine_is_passed_on_and_is_free(http: httpx.Client, scene):
    scene.engine.behaviour.error_after = 2
    seen = list(events(http.post("/v1/chat/completions", json=chat(stream=True))))
    assert seen[-1]["error"]["code"] == "internal_error"
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})
