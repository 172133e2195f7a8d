"""Bodies of the Messages route become a chat's, or are refused by the place of what is at fault."""

import json
from typing import Any

import pytest

from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.surface.messages.request import message_body_read

HELLO = [{"role": "user", "content": "Hello!"}]
WEATHER = {"name": "get_weather", "description": "The weather.", "input_schema": {"type": "object"}}


def read(**fields: Any) -> dict[str, Any]:
    return message_body_read(json.dumps(body(**fields)).encode()).fields


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "kindling/spark", "max_tokens": 9, "messages": HELLO} | fields


def refused(raw: bytes) -> tuple[str, str | None]:
    with pytest.raises(GatewayError) as found:
        message_body_read(raw)
    assert found.value.status == 400
    return found.value.code, found.value.param


def test_the_smallest_body():
    assert read() == {
        "model": "kindling/spark",
        "max_tokens": 9,
        "messages": HELLO,
        "context_length_exceeded_behavior": "truncate",
    }


def test_sampling_stops_and_streaming():
    chat = read(temperature=0.5, top_p=0.9, top_k=4, stop_sequences=["a", "b"], stream=True)
    assert (chat["temperature"], chat["top_p"], chat["top_k"], chat["stop"]) == (0.5, 0.9, 4, ["a", "b"])
    assert chat["stream"] is True
    assert chat["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("system", ["Be kind.", [{"type": "text", "text": "Be kind."}]])
def test_a_system_prompt_is_the_first_message(system: Any):
    assert read(system=system)["messages"] == [{"role": "system", "content": "Be kind."}, *HELLO]


def test_blocks_of_a_conversation_with_tools():
    messages = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Weather in "}, {"type": "text", "text": "Rome?"}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I should look.", "signature": ""},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "21"}],
                },
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no", "is_error": True},
                {"type": "tool_result", "tool_use_id": "toolu_3"},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    assert read(messages=messages)["messages"] == [
        {"role": "user", "content": "Weather in Rome?"},
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_calls": [
                {
                    "id": "toolu_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'},
                }
            ],
            "reasoning_content": "I should look.",
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "21"},
        {"role": "tool", "tool_call_id": "toolu_2", "content": "Error: no"},
        {"role": "tool", "tool_call_id": "toolu_3", "content": ""},
        {"role": "user", "content": "So?"},
    ]


def test_tools_and_the_choice_among_them():
    chat = read(tools=[WEATHER], tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    function = {"name": "get_weather", "parameters": {"type": "object"}, "description": "The weather."}
    assert chat["tools"] == [{"type": "function", "function": function}]
    assert (chat["tool_choice"], chat["parallel_tool_calls"]) == ("auto", False)
    assert read(tools=[WEATHER], tool_choice={"type": "any"})["tool_choice"] == "required"
    named = read(tools=[WEATHER], tool_choice={"type": "tool", "name": "get_weather"})["tool_choice"]
    assert named == {"type": "function", "function": {"name": "get_weather"}}


def test_thinking_effort_and_format():
    budget = read(thinking={"type": "enabled", "budget_tokens": 1024})
    assert budget["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    effort = read(thinking={"type": "adaptive"}, output_config={"effort": "high"})
    assert effort["reasoning_effort"] == "high"
    assert "thinking" not in effort
    schema = {"type": "object", "properties": {}}
    chat = read(output_config={"format": {"type": "json_schema", "schema": schema}})
    assert chat["response_format"]["json_schema"] == {"name": "answer", "schema": schema, "strict": True}


def test_what_has_no_effect_is_named():
    cached = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]}
    ]
    edits = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    asked = body(messages=cached, metadata={"user_id": "u"}, context_management=edits)
    translated = message_body_read(json.dumps(asked).encode())
    assert set(translated.ignored) == {"cache_control", "metadata", "context_management"}


@pytest.mark.parametrize(
    ("asked", "spare"),
    [
        ({}, {}),
        ({"thinking": {"type": "adaptive"}}, {"thinking": ("thinking",)}),
        ({"output_config": {"effort": "high"}}, {"reasoning_effort": ("output_config.effort",)}),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
            {"reasoning_effort": ("thinking", "output_config.effort")},
        ),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 9}, "output_config": {"effort": "high"}},
            {},
        ),
    ],
)
def test_reasoning_is_spared_a_model_that_cannot(asked: dict[str, Any], spare: dict[str, Any]):
    translated = message_body_read(json.dumps(body(**asked)).encode())
    assert translated.spare == spare


SAID = {
    "role": "user",
    "content": [{"type": "tool_result", "tool_use_id": "t"}, {"type": "text", "text": "So?"}],
}
CUT = (
    "The prompt has 10 tokens and max_tokens asks for 9 more. Ask for at most 3, shorten the prompt, or set"
    " context_length_exceeded_behavior to truncate."
)


@pytest.mark.parametrize(
    ("param", "message", "named", "said"),
    [
        ("max_tokens", CUT, "max_tokens", "asks for 9 more. Ask for at most 3 or shorten the prompt."),
        (
            "reasoning_effort",
            "Leave reasoning_effort out.",
            "output_config.effort",
            "Leave output_config.effort out.",
        ),
        ("stop", "stop has a fault.", "stop_sequences", "stop_sequences has a fault."),
        ("stop", "A stop string is long.", "stop_sequences", "A stop string is long."),
        ("messages[0].content", "messages[0].content is bad.", "system", "system is bad."),
        ("messages[3].content", "messages[3].content is bad.", "messages[1]", "messages[1] is bad."),
        (
            "tools[0].function.name",
            "tools[0].function.name is bad.",
            "tools[0].name",
            "tools[0].name is bad.",
        ),
        (
            "tools",
            "tools[0].function.parameters: no pattern.",
            "tools",
            "tools[0].input_schema: no pattern.",
        ),
        (
            "response_format.json_schema.schema",
            "response_format.json_schema.schema is deep.",
            "output_config.format.schema",
            "output_config.format.schema is deep.",
        ),
    ],
)
def test_an_engines_refusal_is_told_in_the_clients_names(param: str, message: str, named: str, said: str):
    asked = body(system="Be kind.", messages=[*HELLO, SAID], tools=[WEATHER])
    naming = message_body_read(json.dumps(asked).encode()).naming
    assert naming is not None
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": "invalid_value"}
    renamed = json.loads(naming.rename(json.dumps({"error": error}).encode()))["error"]
    assert (renamed["param"], renamed["code"]) == (named, "invalid_value")
    assert renamed["message"].endswith(said)


def test_counting_takes_what_makes_a_prompt_and_nothing_else():
    asked = {"model": "m", "messages": HELLO, "system": "s", "tools": [WEATHER]}
    translated = message_body_read(json.dumps(asked).encode(), counting=True)
    assert set(translated.fields) == {"model", "messages", "tools"}
    with pytest.raises(GatewayError) as found:
        message_body_read(json.dumps(asked | {"max_tokens": 4}).encode(), counting=True)
    assert found.value.param == "max_tokens"


IMAGE = "messages[0].content[1].type"


def image(source: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image", "source": source}]}]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"max_tokens": None}, "missing_field", "max_tokens"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": True}, "invalid_value", "max_tokens"),
        ({"model": ""}, "invalid_value", "model"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [3]}, "invalid_value", "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user", "content": []}]}, "invalid_value", "messages[0].content"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "I"}]}, "unsupported_field", "messages[1]"),
        ({"messages": image({"type": "url", "url": "file:///etc/passwd"})}, "unsupported_field", IMAGE),
        ({"messages": image({"type": "url", "url": "http://169.254.169.254/"})}, "unsupported_field", IMAGE),
        ({"messages": image({"type": "base64", "data": ""})}, "unsupported_field", IMAGE),
        ({"system": [{"type": "image"}]}, "unsupported_field", "system[0].type"),
        ({"stop_sequences": ["a"] * 5}, "invalid_value", "stop_sequences"),
        ({"stop_sequences": "a"}, "invalid_value", "stop_sequences"),
        ({"tools": [{"type": "web_search_20250305", "name": "s"}]}, "unsupported_field", "tools[0].type"),
        ({"tools": [{"name": "s"}]}, "missing_field", "tools[0].input_schema"),
        ({"tools": [WEATHER | {"defer_loading": True}]}, "unsupported_field", "tools[0].defer_loading"),
        ({"tool_choice": {"type": "maybe"}}, "invalid_value", "tool_choice.type"),
        ({"thinking": {}}, "missing_field", "thinking.type"),
        ({"thinking": {"type": "enabled", "display": "omitted"}}, "unsupported_field", "thinking.display"),
        ({"container": "c"}, "unsupported_field", "container"),
        ({"service_tier": "fast"}, "unsupported_field", "service_tier"),
        ({"output_config": {"format": {"type": "xml"}}}, "invalid_value", "output_config.format.type"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(change: dict[str, Any], code: str, param: str):
    assert refused(json.dumps(body(**change)).encode()) == (code, param)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"model": NaN}',
        b'{"model": "a", "model": "b"}',
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"max_tokens": 1' + b"0" * 5_000 + b"}",
    ],
    ids=range(7),
)
def test_a_body_that_is_none(raw: bytes):
    assert refused(raw)[0] == "invalid_json"
