"""Each error of a known code says where it is explained, whoever made it; bytes that are no error stay as they are."""

import json

import httpx
import pytest

from kindling_gateway import GatewayServer, chat
from kindling_platform.gateway.errors import ErrorDocs, upstream_failed
from kindling_platform.gateway.events import EventFilter

HERE = "http://localhost:8000"
DOCS = ErrorDocs(HERE)


def test_a_known_code_says_where_it_is_explained():
    error = json.loads(DOCS.body(upstream_failed().body()))["error"]
    assert error["doc_url"] == f"{HERE}/errors/#upstream_failed"
    assert list(error) == ["message", "type", "param", "code", "doc_url"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Bad gateway",
        b"[1]",
        b"null",
        b'{"error": "no"}',
        b'{"error": {"message": "No."}}',
        b'{"error": {"message": "No.", "code": null}}',
        b'{"error": {"message": "No.", "code": "of_nobody"}}',
        b'{"error": {"message": "No.", "code": 7}}',
        b'{"type": "error", "error": {"type": "invalid_request_error", "message": "No."}}',
        b'{"error": {"code": "invalid_value"}',
    ],
)
def test_bytes_that_are_no_error_of_ours_stay_as_they_are(body: bytes):
    assert DOCS.body(body) == body


def test_to_say_it_twice_changes_nothing():
    once = DOCS.body(b'{"error": {"message": "\xc3\xa9 <\\/b>", "code": "invalid_value"}, "more": [1.50]}')
    assert DOCS.body(once) == once


def test_an_error_among_events_says_it_and_other_events_stay():
    events = EventFilter(keep_usage=True, documented=DOCS.body)
    first = b'data: {"choices": [{"delta": {"content": "an \\"error\\": no"}}]}\n\n'
    assert events.feed(first) == first
    out = events.feed(b'data: {"error": {"message": "Gone.", "code": "engine_unavailable"}}\n\n')
    assert json.loads(out.removeprefix(b"data: "))["error"]["doc_url"] == f"{HERE}/errors/#engine_unavailable"
    assert events.failed


def test_what_an_engine_refuses_says_it(http: httpx.Client, scene):
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 400, "invalid_schema"
    error = http.post("/v1/chat/completions", json=chat()).json()["error"]
    assert (error["code"], error["doc_url"].partition("/errors/")[2]) == ("invalid_schema", "#invalid_schema")


def test_an_engines_code_that_is_unknown_passes_as_it_is(http: httpx.Client, scene):
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 400, "of_another_engine"
    error = http.post("/v1/chat/completions", json=chat()).json()["error"]
    assert error["code"] == "of_another_engine"
    assert "doc_url" not in error


@pytest.mark.parametrize("trouble", ["cut_after", "error_after"])
def test_a_stream_that_breaks_off_says_it_whoever_noticed(http: httpx.Client, scene, trouble: str):
    setattr(scene.engine.behaviour, trouble, 2)
    last = http.post("/v1/chat/completions", json=chat(stream=True)).text.split("\n\n")[-2]
    error = json.loads(last.removeprefix("data: "))["error"]
    assert error["doc_url"].endswith(f"/errors/#{error['code']}")


def test_messages_have_the_shape_that_their_clients_know(server: GatewayServer, scene):
    asked = {"model": "kindling/nothing", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    with server.client(scene.key) as client:
        error = client.post("/v1/messages", json=asked).json()["error"]
    assert set(error) == {"type", "message"}


def test_a_refusal_in_the_midst_of_a_body_says_it(http: httpx.Client):
    reply = http.post("/v1/chat/completions", content=b"x", headers={"content-encoding": "br"})
    assert reply.json()["error"]["doc_url"].endswith("/errors/#unsupported_media_type")
