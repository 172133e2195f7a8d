"""Chats with tools over HTTP: what the model gets to see, what binds it, and how its calls are told."""
# ruff: noqa: E501 - tables of refusals read best unwrapped

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_chat_templates import MISTRAL_NAMED, TOOLS
from kindling_fake_core import Bench, fake_bench
from kindling_reasoner import family_text

CALL = '<tool_call>{"name": "get_weather", "arguments": {"city": "Bern", "days": [1]}}</tool_call>'
FUNCTIONS = [tool["function"] for tool in TOOLS]
TIME = '<tool_call>{"name": "get_time", "arguments": {}}</tool_call>'
ARGUMENTS = '{"city": "Bern", "days": [1]}'


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say(CALL)
        yield made


def prompt(bench: Bench) -> str:
    return str(bench.text.tokenizer.decode(bench.core.submitted[-1].prompt_ids, skip_special_tokens=False))


def deltas(events: list[Any]) -> list[dict[str, Any]]:
    return [choice["delta"] for one in events if isinstance(one, dict) for choice in one["choices"]]


async def test_a_whole_answer_has_its_calls(bench: Bench):
    bench.say(f"Look.\n{CALL}\n{TIME}")
    body = await bench.chat_whole(tools=TOOLS)
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Look."
    first, second = choice["message"]["tool_calls"]
    assert first == {
        "id": first["id"],
        "type": "function",
        "function": {"name": "get_weather", "arguments": ARGUMENTS},
    }
    assert second["function"] == {"name": "get_time", "arguments": "{}"}
    assert first["id"] != second["id"]
    assert "get_weather" in prompt(bench)
    assert bench.core.submitted[0].constraint is None


async def test_a_stream_tells_calls_by_index(bench: Bench):
    bench.say(f"{CALL}\n{TIME}")
    events = await bench.chat_events(tools=TOOLS)
    told = deltas(events)
    assert told[0] == {"role": "assistant"}
    calls = [call for delta in told for call in delta.get("tool_calls", [])]
    assert [call["index"] for call in calls] == sorted(call["index"] for call in calls)
    starts = [call for call in calls if "id" in call]
    assert [one["function"]["name"] for one in starts] == ["get_weather", "get_time"]
    for index, expected in enumerate((ARGUMENTS, "{}")):
        pieces = [call["function"]["arguments"] for call in calls if call["index"] == index]
        assert "".join(pieces) == expected
        assert len(pieces) > 1
    assert not any(delta.get("content") for delta in told)
    assert events[-3]["choices"][0]["finish_reason"] == "tool_calls"
    assert events[-1] == "[DONE]"


async def test_a_call_that_was_cut_off_ends_by_length(bench: Bench):
    bench.core.answer = bench.say(CALL)[:-6]
    body = await bench.chat_whole(tools=TOOLS)
    assert body["choices"][0]["finish_reason"] == "length"
    assert ARGUMENTS.startswith(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])


async def test_a_call_that_a_stop_string_cut_off_is_none_to_act_on(bench: Bench):
    whole = (await bench.chat_whole(tools=TOOLS, stop=["Bern"]))["choices"][0]
    assert whole["finish_reason"] == "stop"
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == '{"city": "'
    events = await bench.chat_events(tools=TOOLS, stop=["Bern"])
    assert events[-3]["choices"][0]["finish_reason"] == "stop"


async def test_a_demanded_call_ends_where_its_schema_ends(bench: Bench):
    async with bench.chat(tools=TOOLS, tool_choice="required", stop=["Bern"]) as reply:
        assert reply.headers["x-kindling-ignored"] == "stop"
        (choice,) = (await reply.json())["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == ARGUMENTS


async def test_a_tool_without_parameters_takes_none(bench: Bench):
    await bench.chat_whole(
        tools=[{"type": "function", "function": {"name": "get_time"}}], tool_choice="required"
    )
    constraint = bench.core.submitted[-1].constraint
    assert constraint is not None and '"additionalProperties":false' in constraint.text.replace(" ", "")


async def test_text_stays_text(bench: Bench):
    for text in ("No call.", "<tool_call>oops</tool_call>"):
        bench.say(text)
        body = await bench.chat_whole(tools=TOOLS)
        assert body["choices"][0]["message"] == {"role": "assistant", "content": text, "refusal": None}
        assert body["choices"][0]["finish_reason"] == "stop"
    # Without tools nobody asked for calls.
    bench.say(CALL)
    assert (await bench.chat_whole())["choices"][0]["message"]["content"] == CALL
    assert (await bench.chat_whole(tools=TOOLS, tool_choice="none"))["choices"][0]["message"][
        "content"
    ] == CALL
    assert "get_weather" not in prompt(bench)


async def test_choices_have_calls_of_their_own(bench: Bench):
    body = await bench.chat_whole(tools=TOOLS, n=2)
    ids = [choice["message"]["tool_calls"][0]["id"] for choice in body["choices"]]
    assert ids[0] != ids[1]
    told = await bench.chat_events(tools=TOOLS, n=2)
    for index in (0, 1):
        choices = [one for event in told if isinstance(event, dict) for one in event["choices"]]
        mine = [one for one in choices if one["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant"}
        assert mine[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("fields", "holds"),
    [
        ({"tool_choice": "required"}, ["get_weather", "get_time", "start: LEAD calls"]),
        ({"tool_choice": "any", "parallel_tool_calls": False}, ["get_weather", "start: LEAD calls"]),
        (
            {"tool_choice": {"type": "function", "function": {"name": "get_time"}}},
            ["get_time", "start: LEAD calls"],
        ),
        ({"parallel_tool_calls": False}, ["get_weather", "start: TEXT calls?"]),
        ({"response_format": {"type": "json_object"}}, ["get_time", "calls | answer"]),
    ],
)
async def test_what_binds_the_answer(bench: Bench, fields: dict[str, Any], holds: list[str]):
    await bench.chat_whole(tools=TOOLS, **fields)
    constraint = bench.core.submitted[0].constraint
    assert constraint
    assert constraint.kind == "lark"
    for one in holds:
        assert one in constraint.text
    if "function" in str(fields):
        assert "get_weather" not in constraint.text


async def test_a_strict_tool_is_bound_and_the_model_is_not_told(bench: Bench):
    strict = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": True}}, TOOLS[1]]
    await bench.chat_whole(tools=strict)
    bound = bench.core.submitted[0].constraint
    assert bound
    assert '"city"' in bound.text
    assert "strict" not in prompt(bench)


async def test_the_old_form_is_answered_in_the_old_form(bench: Bench):
    functions = [tool["function"] for tool in TOOLS]
    body = await bench.chat_whole(functions=functions)
    message = body["choices"][0]["message"]
    assert message["function_call"] == {"name": "get_weather", "arguments": ARGUMENTS}
    assert "tool_calls" not in message
    assert body["choices"][0]["finish_reason"] == "function_call"
    events = await bench.chat_events(functions=functions, function_call={"name": "get_weather"})
    told = [delta["function_call"] for delta in deltas(events) if "function_call" in delta]
    assert told[0] == {"name": "get_weather", "arguments": ""}
    assert "".join(one["arguments"] for one in told) == ARGUMENTS
    history = [
        {"role": "user", "content": "x"},
        message,
        {"role": "function", "name": "get_weather", "content": "sunny"},
    ]
    await bench.chat_whole(messages=history, functions=functions)
    assert f'<tool_call>{{"name": "get_weather", "arguments": {ARGUMENTS}}}</tool_call>' in prompt(bench)
    assert "<|im_start|>tool\nsunny" in prompt(bench)


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


async def test_of_allowed_tools_the_model_sees_those_alone(bench: Bench):
    bench.say(TIME)
    body = await bench.chat_whole(tools=TOOLS, tool_choice=allowed("auto", "get_time"))
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "get_time"
    assert "get_time" in prompt(bench)
    assert "get_weather" not in prompt(bench)
    assert bench.core.submitted[-1].constraint is None
    await bench.chat_whole(tools=TOOLS, tool_choice=allowed("required", "get_time"))
    bound = bench.core.submitted[-1].constraint
    assert bound
    assert "start: LEAD calls" in bound.text
    assert "get_weather" not in bound.text
    # A call to one of the others is nobody's call.
    bench.say(CALL)
    body = await bench.chat_whole(tools=TOOLS, tool_choice=allowed("auto", "get_time"))
    assert body["choices"][0]["message"]["content"] == CALL


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_to_a_tool_that_was_not_offered_is_text(bench: Bench, stream: bool):
    text = '<tool_call>{"name": "rm", "arguments": {}}</tool_call>'
    bench.say(text)
    if stream:
        told = deltas(await bench.chat_events(tools=TOOLS))
        assert "".join(delta.get("content", "") for delta in told) == text
        assert not any("tool_calls" in delta for delta in told)
        return
    choice = (await bench.chat_whole(tools=TOOLS))["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")
    assert "tool_calls" not in choice["message"]


async def test_a_call_that_was_cut_in_its_mark_is_not_shown(bench: Bench):
    bench.say("Look. <tool_call")
    bench.core.answer = bench.core.answer[:-1]  # no end token: the length ends it
    for limit in (len(bench.core.answer), None):
        body = await bench.chat_whole(tools=TOOLS, max_tokens=limit)
        choice = body["choices"][0]
        cut = limit is not None
        assert choice["finish_reason"] == ("length" if cut else "stop")
        assert choice["message"]["content"] == ("Look." if cut else "Look. <tool_call")
        told = deltas(await bench.chat_events(tools=TOOLS, max_tokens=limit))
        assert "".join(delta.get("content", "") for delta in told) == choice["message"]["content"]
        bench.say("Look. <tool_call")


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": TOOLS, "tool_choice": "none"},
        {"tools": TOOLS, "function_call": "none"},
        {"functions": FUNCTIONS, "function_call": "none"},
        {"functions": FUNCTIONS, "tool_choice": "none"},
        {"functions": FUNCTIONS, "function_call": {"name": "get_time"}, "tool_choice": "none"},
    ],
)
async def test_nothing_is_called_when_nothing_may_be(bench: Bench, fields: dict[str, Any]):
    choice = (await bench.chat_whole(**fields))["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": CALL, "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert "get_weather" not in prompt(bench)
    assert bench.core.submitted[-1].constraint is None


@pytest.mark.parametrize(
    ("parameters", "named", "held"),
    [
        ({"properties": {"x": {"type": "array", "uniqueItems": True, "maxItems": 77}}}, "uniqueItems", "77"),
        ({"properties": {"x": {"type": "string", "pattern": "^(?=a)", "maxLength": 77}}}, "pattern", "77"),
        (
            {"propertyNames": {"pattern": "^a"}, "minProperties": 1, "required": ["y77"]},
            "propertyNames",
            "77",
        ),
        ({"properties": {"x": {"oneOf": [{"pattern": "a"}, {"pattern": "b"}]}}}, "", '"type": "object"'),
        ({"not": {"uniqueItems": True}}, "", '"type": "object"'),
        ({"properties": {"x77": {"propertyNames": {"type": "string"}}}}, None, "77"),
    ],
)
async def test_what_of_a_demanded_call_s_schema_cannot_be_kept_is_named(
    bench: Bench, parameters: dict[str, Any], named: str | None, held: str
):
    field = "tools.function.parameters"
    async with bench.chat(tools=changed(parameters=parameters), tool_choice="required") as reply:
        assert reply.status == 200, await reply.text()
        expected = None if named is None else f"{field}.{named}".removesuffix(".")
        assert reply.headers.get("x-kindling-ignored") == expected
    bound = bench.core.submitted[-1].constraint
    assert bound
    assert held in bound.text


def changed(**function: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", **function}}]


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"tools": "x"}, "invalid_value", "tools"),
        ({"tools": ["x"]}, "invalid_value", "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "unsupported_field", "tools[0].type"),
        ({"tools": [{"function": {"name": "f"}}]}, "missing_field", "tools[0].type"),
        ({"tools": changed(name="a b")}, "invalid_value", "tools[0].function.name"),
        ({"tools": changed(name="")}, "invalid_value", "tools[0].function.name"),
        ({"tools": changed(name="x" * 65)}, "invalid_value", "tools[0].function.name"),
        ({"tools": changed(parameters=[])}, "invalid_value", "tools[0].function.parameters"),
        ({"tools": changed(description=5)}, "invalid_value", "tools[0].function.description"),
        ({"tools": changed(strict="yes")}, "invalid_value", "tools[0].function.strict"),
        ({"tools": changed(mood="x")}, "unsupported_field", "tools[0].function.mood"),
        ({"tools": changed(description="x" * 70_000)}, "invalid_value", "tools[0].function"),
        ({"tools": changed() * 2}, "invalid_value", "tools"),
        ({"tools": [{"type": "function", "function": {"name": f"f{n}"}} for n in range(129)]}, "invalid_value", "tools"),
        ({"tools": TOOLS, "functions": [{"name": "f"}]}, "invalid_value", "functions"),
        ({"tools": TOOLS, "tool_choice": "maybe"}, "invalid_value", "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "missing_field", "tool_choice.function.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "x"}}, "unsupported_field", "tool_choice.type"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}}, "invalid_value", "tool_choice"),
        ({"tools": TOOLS, "parallel_tool_calls": 1}, "invalid_value", "parallel_tool_calls"),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "invalid_value", "function_call"),
        ({"functions": [{"name": "f"}], "function_call": "required"}, "invalid_value", "function_call"),
        ({"tools": changed(parameters={"properties": {"x": {"type": "array", "uniqueItems": True}}}, strict=True), "tool_choice": "required"}, "unsupported_schema", "tools"),
        ({"tools": changed(parameters={"type": "x"}), "tool_choice": "required"}, "invalid_schema", "tools"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "missing_field", "tool_choice.allowed_tools.mode"),
        ({"tools": TOOLS, "tool_choice": allowed("none", "get_time")}, "invalid_value", "tool_choice.allowed_tools.mode"),
        ({"tools": TOOLS, "tool_choice": allowed("auto", "g")}, "invalid_value", "tool_choice.allowed_tools.tools"),
        ({"tools": TOOLS, "tool_choice": allowed("required")}, "invalid_value", "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ["x"]}}},
         "invalid_value", "tool_choice.allowed_tools.tools[0]"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": 5}}},
         "invalid_value", "tool_choice.allowed_tools.tools"),
        ({"tools": changed(parameters={"type": "x"}, strict=True)}, "invalid_schema", "tools"),
        ({"tools": TOOLS, "response_format": {"type": "grammar", "grammar": "start: /a/"}}, "unsupported_field",
         "response_format"),
    ],
)  # fmt: skip
async def test_what_cannot_be_served_is_named(bench: Bench, fields: dict[str, Any], code: str, param: str):
    async with bench.chat(**fields) as reply:
        assert reply.status == 400, await reply.text()
        error = json.loads(await reply.read())["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert bench.core.submitted == []


async def test_a_model_without_tools_says_so(bench: Bench):
    text = family_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    bench.front.text = text
    async with bench.chat(tools=TOOLS) as reply:
        assert reply.status == 400
        assert (await reply.json())["error"]["code"] == "unsupported_field"


async def test_marks_that_are_special_tokens_reach_the_parser(bench: Bench):
    """Special tokens are left out of texts, but for those that tell where a call is."""
    bench.front.text = family_text(MISTRAL_NAMED, marks=("[TOOL_CALLS]", "[ARGS]"), special=True)
    bench.say(f"Hm.[TOOL_CALLS]get_weather[ARGS]{ARGUMENTS}")
    body = await bench.chat_whole(tools=TOOLS)
    message = body["choices"][0]["message"]
    assert message["content"] == "Hm."
    (call,) = message["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": ARGUMENTS}
    assert len(call["id"]) == 9
    assert call["id"].isalnum()


async def test_logprobs_are_those_of_the_content(bench: Bench):
    bench.say(f"Look here. {CALL}")
    body = await bench.chat_whole(tools=TOOLS, logprobs=True)
    entries = body["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == "Look here."
    told = [
        entry["token"]
        for event in await bench.chat_events(tools=TOOLS, logprobs=True)
        if isinstance(event, dict)
        for choice in event["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert told == [entry["token"] for entry in entries]
