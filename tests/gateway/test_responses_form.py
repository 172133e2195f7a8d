"""A chat's answers in the shape of the Responses API: numbered events that the official client's types accept."""

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from kindling_chunks import CALL, CHUNKS, ID, USAGE, chunk, events_of, stream_of
from kindling_platform.gateway.surface.responses.reply import ResponseForm
from kindling_platform.gateway.surface.responses.request import response_body_read

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
HEX = ID.replace("-", "")


def form_of(**fields: Any) -> ResponseForm:
    asked = response_body_read(json.dumps({"model": "m", "input": "Hi"} | fields).encode())
    form = ResponseForm(asked.echo)
    form.begin(ID, {})
    return form


def streamed(data: bytes, cuts: list[int] = []) -> list[dict[str, Any]]:  # noqa: B006 - never changed
    form = form_of()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    out = b"".join(form.feed(data[start:end]) for start, end in pairwise(places))
    return events_of(out + form.end())


def test_a_stream_is_numbered_and_of_the_clients_types():
    events = streamed(stream_of(CHUNKS))
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    for event in events:
        EVENT.validate_python(event)
    kinds = [event["type"] for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    added = [event["item"]["type"] for event in events if event["type"] == "response.output_item.added"]
    assert added == ["reasoning", "message", "function_call", "function_call"]


def test_a_stream_ends_with_all_that_it_told():
    events = streamed(stream_of(CHUNKS))
    response = events[-1]["response"]
    assert (response["id"], response["status"], response["object"]) == (
        f"resp_{HEX}",
        "completed",
        "response",
    )
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert response["output"] == done
    reasoning, message, first, second = done
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "Let me see."}]
    assert message["content"][0]["text"] == "Hello there ü"
    assert (first["call_id"], first["name"], first["arguments"]) == ("call_0", "look", '{"city":"Rome"}')
    assert (second["call_id"], second["arguments"]) == ("call_1", "{}")
    deltas = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert deltas == ['{"city":', '"Rome"}', "{}"]
    assert response["usage"] == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 29,
    }


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_the_cuts_between_the_bytes_change_nothing(cuts: list[int]):
    data = stream_of(CHUNKS)
    assert [event["type"] for event in streamed(data, cuts)] == [event["type"] for event in streamed(data)]


def test_an_answer_that_its_length_cut_is_incomplete():
    events = streamed(
        stream_of([chunk({"content": "Hel"}), chunk({}, "length"), {"usage": USAGE, "choices": []}])
    )
    response = events[-1]["response"]
    assert events[-1]["type"] == "response.incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"


def test_an_error_in_a_stream_is_a_failed_response():
    failure = {"error": {"message": "Gone.", "type": "api_error", "param": None, "code": "upstream_failed"}}
    events = streamed(stream_of([*CHUNKS[:3], failure], done=False))
    assert events[-1]["type"] == "response.failed"
    assert events[-1]["response"]["error"] == {"code": "server_error", "message": "Gone."}
    assert EVENT.validate_python(events[-1]).response.status == "failed"


def test_a_whole_answer_has_the_same_items():
    form = form_of(metadata={"k": "v"})
    message = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm", "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}
    form.whole(json.dumps({"model": "m", "created": 5, "choices": [choice], "usage": USAGE}).encode())
    answer = json.loads(form.end())
    parsed = Response.model_validate(answer)
    assert parsed.output_text == "Hi"
    assert [item.type for item in parsed.output] == ["reasoning", "message", "function_call"]
    assert (parsed.metadata, parsed.status, parsed.created_at) == ({"k": "v"}, "completed", 5)
    assert len({item.id for item in parsed.output}) == 3


def test_a_response_that_could_not_be_kept_says_so():
    form = form_of()
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    form.whole(json.dumps({"model": "m", "choices": [choice], "usage": USAGE}).encode())
    form.store = False
    assert json.loads(form.end())["store"] is False


def test_logprobs_stand_with_their_text():
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    events = streamed(
        stream_of([chunk({"content": "Hi"}, None, logprobs={"content": [entry]}), chunk({}, "stop")])
    )
    (delta,) = [event for event in events if event["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == [entry]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]


def test_a_bound_that_cut_a_stream_is_named():
    cut = chunk({}, "length") | {"limited_by": "max_cost"}
    events = streamed(stream_of([chunk({"content": "Hel"}), cut, {"choices": [], "usage": USAGE}]))
    details = events[-1]["response"]["incomplete_details"]
    assert details == {"reason": "max_output_tokens", "limited_by": "max_cost"}
