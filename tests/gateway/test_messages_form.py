"""A chat's answers in Anthropic's shape: whole, and as events whatever the cuts between the bytes."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_chunks import CALL, CHUNKS, ID, USAGE, chunk, events_of, stream_of
from kindling_platform.gateway.surface.messages.reply import MessageForm


def streamed(data: bytes, cuts: list[int] = []) -> list[dict[str, Any]]:  # noqa: B006 - never changed
    form = MessageForm()
    form.begin(ID, {b"x-kindling-prompt-tokens": b"20", b"x-kindling-cached-tokens": b"16"})
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    out = b"".join(form.feed(data[start:end]) for start, end in pairwise(places))
    return events_of(out + form.end())


def test_a_stream_tells_its_blocks_in_order():
    events = streamed(stream_of(CHUNKS))
    start = events[0]["message"]
    assert (start["id"], start["role"], start["content"]) == (f"msg_{ID}", "assistant", [])
    assert (start["usage"]["input_tokens"], start["usage"]["cache_read_input_tokens"]) == (4, 16)
    blocks = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [block["type"] for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
    assert [(block["id"], block["name"]) for block in blocks[2:]] == [("call_0", "look"), ("call_1", "ask")]
    stops = [event["index"] for event in events if event["type"] == "content_block_stop"]
    assert stops == [0, 1, 2, 3]
    said: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta":
            delta = event["delta"]
            text = delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
            said[event["index"]] = said.get(event["index"], "") + text
    assert said == {0: "Let me see.", 1: "Hello there ü", 2: '{"city":"Rome"}', 3: "{}"}
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 9
    assert events[-2]["usage"]["input_tokens"] + events[-2]["usage"]["cache_read_input_tokens"] == 20
    assert events[-1] == {"type": "message_stop"}


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_the_cuts_between_the_bytes_change_nothing(cuts: list[int]):
    data = stream_of(CHUNKS)
    assert streamed(data, cuts) == streamed(data)


def test_every_part_leaves_with_the_chunk_that_brought_it():
    form = MessageForm()
    form.begin(ID, {})
    assert b"message_start" in form.feed(stream_of(CHUNKS[:1], done=False))
    assert b"Let me " in form.feed(stream_of(CHUNKS[1:2], done=False))
    assert b"Hello " in form.feed(stream_of(CHUNKS[3:4], done=False))


def test_an_error_in_a_stream_ends_it():
    failure = {"error": {"message": "Gone.", "type": "api_error", "param": None, "code": "upstream_failed"}}
    events = streamed(stream_of([*CHUNKS[:4], failure], done=False))
    assert events[-1] == {
        "type": "error",
        "error": {"type": "api_error", "message": "Gone."},
        "request_id": ID,
    }
    assert "message_stop" not in [event["type"] for event in events]


@pytest.mark.parametrize(
    ("code", "kind", "expected"),
    [
        ("overloaded", "api_error", "overloaded_error"),
        ("server_shutdown", "api_error", "overloaded_error"),
        ("rate_limit_exceeded", "rate_limit_error", "rate_limit_error"),
        ("deadline_exceeded", "api_error", "timeout_error"),
        ("constraint_dead_end", "invalid_request_error", "invalid_request_error"),
        ("internal_error", "server_error", "api_error"),
    ],
)
def test_an_error_in_a_stream_has_the_type_of_its_status(code: str, kind: str, expected: str):
    failure = {"error": {"message": "Gone.", "type": kind, "param": None, "code": code}}
    assert streamed(stream_of([*CHUNKS[:2], failure], done=False))[-1]["error"]["type"] == expected


def whole(message: dict[str, Any], finish: str, **more: Any) -> dict[str, Any]:
    form = MessageForm()
    form.begin(ID, {})
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish, **more}
    form.whole(json.dumps({"model": "m", "choices": [choice], "usage": USAGE}).encode())
    answer: dict[str, Any] = json.loads(form.end())
    return answer


def test_a_whole_answer():
    answer = whole({"content": "Hi", "reasoning_content": "Hm", "tool_calls": [CALL]}, "tool_calls")
    assert answer["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": ""},
        {"type": "text", "text": "Hi", "citations": None},
        {"type": "tool_use", "id": "call_1", "name": "look", "input": {"city": "Rome"}},
    ]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("tool_use", None)
    assert answer["usage"]["output_tokens"] == 9


def test_why_an_answer_ended():
    reasons = [
        whole({"content": "x"}, finish)["stop_reason"] for finish in ("stop", "length", "content_filter")
    ]
    assert reasons == ["end_turn", "max_tokens", "refusal"]
    stopped = whole({"content": "x"}, "stop", stop_reason="END")
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "END")


def test_arguments_that_were_cut_off_are_an_empty_input():
    cut = {**CALL, "function": {"name": "look", "arguments": '{"city":"Ro'}}
    assert whole({"content": None, "tool_calls": [cut]}, "length")["content"][0]["input"] == {}


def test_a_bound_that_cut_a_stream_is_named():
    cut = chunk({}, "length") | {"limited_by": "max_cost"}
    events = streamed(stream_of([chunk({"content": "Hel"}), cut, {"choices": [], "usage": USAGE}]))
    assert events[-2]["delta"] == {
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "limited_by": "max_cost",
    }


def test_errors_have_anthropics_types():
    form = MessageForm()
    form.begin(ID, {})
    body = json.dumps({"error": {"message": "No.", "type": "x", "param": None, "code": "y"}}).encode()
    types = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error",
             403: "permission_error", 404: "not_found_error", 413: "request_too_large",
             429: "rate_limit_error", 502: "api_error", 503: "overloaded_error"}  # fmt: skip
    named = json.dumps({"error": {"message": "It is long.", "param": "stop_sequences"}}).encode()
    assert json.loads(form.refusal(400, named))["error"]["message"] == "stop_sequences: It is long."
    for status, kind in types.items():
        assert json.loads(form.refusal(status, body)) == {
            "type": "error",
            "error": {"type": kind, "message": "No."},
            "request_id": ID,
        }
