"""Bodies of the Responses route become a chat's, or are refused by the place of what is at fault."""

import json
from typing import Any

import pytest

from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.surface.responses.items import Item, message_item
from kindling_platform.gateway.surface.responses.request import ResponseAsk, response_body_read

LOOK = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
ASK_LOOK = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object"}, "strict": True},
}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "kindling/spark", "input": "Hello!"} | fields).encode()


def read(**fields: Any) -> ResponseAsk:
    return response_body_read(body(**fields))


def chat(earlier: list[Item] = [], **fields: Any) -> dict[str, Any]:  # noqa: B006 - never changed
    return read(**fields).translate(earlier, context_length=1000).fields


def test_the_smallest_body():
    assert chat() == {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello!"}]}
    assert read().store is True
    assert read(store=False).store is False


def test_instructions_come_first_and_are_not_part_of_the_items():
    messages = chat(instructions="Be kind.")["messages"]
    assert messages == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello!"}]
    assert [item["type"] for item in read(instructions="Be kind.").items] == ["message"]


def test_items_become_messages():
    items = [
        {"role": "developer", "content": "Be short."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        },
        {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": '{"city":"Rome"}'},
        {"type": "function_call", "call_id": "call_2", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "21"},
        {
            "type": "function_call_output",
            "call_id": "call_2",
            "output": [{"type": "input_text", "text": "22"}],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "Warm.", "annotations": []}]},
        {"role": "user", "content": "Thanks"},
    ]
    call = {"type": "function", "function": {"name": "look", "arguments": "{}"}, "id": "call_2"}
    first = {"type": "function", "function": {"name": "look", "arguments": '{"city":"Rome"}'}, "id": "call_1"}
    assert chat(input=items)["messages"] == [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "reasoning_content": "Hm.", "tool_calls": [first, call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "21"},
        {"role": "tool", "tool_call_id": "call_2", "content": "22"},
        {"role": "assistant", "content": "Warm."},
        {"role": "user", "content": "Thanks"},
    ]
    ids = [item["id"] for item in read(input=items).items]
    assert len(set(ids)) == len(ids)


def test_two_answers_in_a_row_stay_two():
    items = [{"role": "assistant", "content": "One."}, {"role": "assistant", "content": "Two."}]
    assert [one["content"] for one in chat(input=[*items, {"role": "user", "content": "?"}])["messages"]] == [
        "One.",
        "Two.",
        "?",
    ]


def test_earlier_items_come_before():
    earlier = [message_item("user", [{"type": "input_text", "text": "First"}])]
    assert [one["content"] for one in chat(earlier)["messages"]] == ["First", "Hello!"]


def test_sampling_length_and_streaming():
    fields = chat(temperature=0.5, top_p=0.9, max_output_tokens=40, stream=True)
    assert (fields["temperature"], fields["top_p"], fields["max_completion_tokens"]) == (0.5, 0.9, 40)
    assert fields["stream_options"] == {"include_usage": True}


def test_truncation_leaves_room_for_the_answer():
    assert chat(truncation="auto", max_output_tokens=100)["prompt_truncate_len"] == 900
    assert chat(truncation="auto")["prompt_truncate_len"] == 750
    assert "prompt_truncate_len" not in chat(truncation="disabled")
    assert "context_length_exceeded_behavior" not in chat()


def test_truncation_leaves_room_for_a_prompt_whatever_the_answer_wants():
    fields = chat(truncation="auto", max_output_tokens=128_000)
    assert (fields["prompt_truncate_len"], fields["max_completion_tokens"]) == (500, 128_000)
    assert fields["context_length_exceeded_behavior"] == "truncate"


def test_tools_and_the_choice_among_them():
    assert chat(tools=[LOOK])["tools"] == [ASK_LOOK]
    assert chat(tools=[LOOK], tool_choice="required")["tool_choice"] == "required"
    named = chat(tools=[LOOK], tool_choice={"type": "function", "name": "look"}, parallel_tool_calls=False)
    assert named["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert named["parallel_tool_calls"] is False
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]}
    other = {**LOOK, "name": "other"}
    assert chat(tools=[LOOK, other], tool_choice=allowed)["tools"] == [ASK_LOOK]


OTHERS = [
    {"type": "web_search", "external_web_access": False},
    {"type": "custom", "name": "apply_patch", "format": {"type": "grammar", "syntax": "lark"}},
    {"type": "namespace", "name": "files", "tools": [LOOK]},
    {"type": "something_new"},
]


@pytest.mark.parametrize(
    "choice", [None, "auto", "none", {"type": "function", "name": "look"},
               {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]}]
)  # fmt: skip
def test_tools_that_are_no_functions_are_left_out_and_named(choice: Any):
    asked = read(tools=[*OTHERS, LOOK], tool_choice=choice, client_metadata={"a": "b"})
    assert asked.chat["tools"] == [ASK_LOOK]
    assert asked.echo["tools"] == [{**LOOK, "description": None}]
    assert set(asked.ignored) == {"client_metadata", *(f"tools[{index}]" for index in range(4))}
    assert asked.naming.name("tools[0].function.parameters") == "tools[4].parameters"


def test_nothing_but_other_tools_is_a_plain_answer():
    fields = chat(tools=OTHERS, tool_choice="auto", parallel_tool_calls=False)
    assert not {"tools", "parallel_tool_calls"} & set(fields)


@pytest.mark.parametrize(
    ("param", "message", "named", "said"),
    [
        (
            "max_tokens",
            "max_tokens asks for more. Ask for at most 3, shorten the prompt, or set"
            " context_length_exceeded_behavior to truncate.",
            "max_output_tokens",
            "max_output_tokens asks for more. Ask for at most 3 or shorten the prompt.",
        ),
        (
            "reasoning_effort",
            "Leave reasoning_effort out.",
            "reasoning.effort",
            "Leave reasoning.effort out.",
        ),
        (
            "response_format",
            "response_format: no such keyword.",
            "text.format",
            "text.format: no such keyword.",
        ),
        ("response_format.json_schema.name", "It is long.", "text.format.name", "It is long."),
        ("messages", "messages holds no text.", "input", "input holds no text."),
        ("messages[3].content", "messages[3].content is bad.", "input", "input is bad."),
        ("tool_choice.function.name", "It is empty.", "tool_choice.name", "It is empty."),
        ("temperature", "temperature is high.", "temperature", "temperature is high."),
        (None, "Too many.", None, "Too many."),
    ],
)
def test_an_engines_refusal_is_told_in_the_clients_names(
    param: str | None, message: str, named: str | None, said: str
):
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_value"}
    renamed = json.loads(read().naming.rename(json.dumps({"error": error}).encode()))
    assert renamed == {"error": error | {"message": said, "param": named}}


def test_counting_takes_what_makes_a_prompt_and_nothing_else():
    asked = {"model": "m", "input": "Hi", "instructions": "i", "tools": [LOOK], "truncation": "auto"}
    counted = response_body_read(json.dumps(asked).encode(), counting=True)
    assert (counted.store, counted.background) == (False, False)
    for name, value in (("stream", True), ("max_output_tokens", 3), ("store", True)):
        with pytest.raises(GatewayError) as found:
            response_body_read(json.dumps(asked | {name: value}).encode(), counting=True)
        assert found.value.param == name


def test_formats_reasoning_and_logprobs():
    schema = {"type": "object", "properties": {}}
    form = {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}
    fields = chat(text={"format": form}, reasoning={"effort": "low"}, top_logprobs=2)
    assert fields["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": schema, "strict": True},
    }
    assert (fields["reasoning_effort"], fields["logprobs"], fields["top_logprobs"]) == ("low", True, 2)
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(text={"format": {"type": "text"}, "verbosity": "medium"})


def test_what_has_no_effect_is_named():
    ignored = read(
        user="u",
        reasoning={"summary": "auto"},
        include=["reasoning.encrypted_content"],
        service_tier="priority",
        text={"verbosity": "low"},
        max_tool_calls=3,
    ).ignored
    assert set(ignored) == {
        *("user", "reasoning.summary", "include.reasoning.encrypted_content", "service_tier"),
        *("text.verbosity", "max_tool_calls"),
    }


def test_the_answer_repeats_what_was_asked():
    echo = read(metadata={"a": "b"}, instructions="i", tools=[LOOK], previous_response_id="resp_1").echo
    assert (echo["metadata"], echo["instructions"], echo["previous_response_id"]) == (
        {"a": "b"},
        "i",
        "resp_1",
    )
    assert echo["tools"] == [{**LOOK, "description": None}]
    assert (echo["tool_choice"], echo["truncation"], echo["store"]) == ("auto", "disabled", True)


PART = "input[0].content[0].type"
SECRET = "input[0].encrypted_content"


def part(kind: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": kind, **fields}]}]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"input": None}, "missing_field", "input"),
        ({"input": 3}, "invalid_value", "input"),
        ({"input": [3]}, "invalid_value", "input[0]"),
        ({"input": [{"type": "item_reference"}]}, "missing_field", "input[0].id"),
        ({"input": [{"type": "item_reference", "id": "x", "role": "user"}]}, "unsupported_field", "input[0].role"),
        ({"input": part("input_image", image_url="file:///etc/passwd")}, "unsupported_field", PART),
        ({"input": part("input_image", image_url="http://10.0.0.1/")}, "unsupported_field", PART),
        ({"input": part("input_file", file_id="f")}, "unsupported_field", PART),
        ({"input": part("input_text")}, "missing_field", "input[0].content[0].text"),
        ({"input": [{"role": "robot", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "missing_field", "input[0].call_id"),
        ({"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "unsupported_field", SECRET),
        ({"background": 1}, "invalid_value", "background"),
        ({"background": True, "stream": True}, "unsupported_field", "stream"),
        ({"background": True, "store": False}, "invalid_value", "store"),
        ({"conversation": "conv_1"}, "unsupported_field", "conversation"),
        ({"prompt": {"id": "p"}}, "unsupported_field", "prompt"),
        ({"include": ["file_search_call.results"]}, "unsupported_field", "include[0]"),
        ({"tools": [LOOK, {"type": "web_search"}], "tool_choice": "required"}, "unsupported_field", "tools[1].type"),
        ({"tools": [{"type": "x"}], "tool_choice": {"type": "x"}}, "unsupported_field", "tool_choice.type"),
        ({"tools": [{"name": "look"}]}, "missing_field", "tools[0].type"),
        ({"tools": [{"type": 3}]}, "invalid_value", "tools[0].type"),
        ({"tools": [{"type": "web_search"}] * 129}, "invalid_value", "tools"),
        ({"tool_choice": "any"}, "invalid_value", "tool_choice"),
        ({"tool_choice": {"type": "mcp"}}, "unsupported_field", "tool_choice.type"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"name": "x"}]}}, "invalid_value", "tool_choice.tools"),
        ({"text": {"format": {"type": "grammar"}}}, "invalid_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "missing_field", "text.format.name"),
        ({"metadata": {"a": 3}}, "invalid_value", "metadata"),
        ({"max_output_tokens": 0}, "invalid_value", "max_output_tokens"),
        ({"truncation": "all"}, "invalid_value", "truncation"),
        ({"store": "yes"}, "invalid_value", "store"),
        ({"no_such_field": 1}, "unsupported_field", "no_such_field"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(change: dict[str, Any], code: str, param: str):
    with pytest.raises(GatewayError) as found:
        chat(**change)
    assert (found.value.status, found.value.code, found.value.param) == (400, code, param)


def test_nothing_to_answer():
    with pytest.raises(GatewayError) as found:
        chat(input=[])
    assert found.value.param == "input"


def test_a_choice_among_tools_holds_nothing_else():
    allowed = {"type": "allowed_tools", "tools": [{"type": "function", "name": "look", "junk": [[1]]}]}
    with pytest.raises(GatewayError) as found:
        chat(tools=[LOOK], tool_choice=allowed)
    assert found.value.param == "tool_choice.tools[0].junk"
