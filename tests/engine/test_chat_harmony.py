"""Chats with a model that answers in OpenAI's harmony format, over HTTP: prompts, what binds answers, how they are told."""
# ruff: noqa: E501 - prompts read best unwrapped

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_chat_templates import TOOLS
from kindling_fake_core import Bench
from kindling_harmony import ARGUMENTS, FINAL, THOUGHT, harmony_bench

SAID = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
CALL = f"<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{ARGUMENTS}"
STRICT = {"type": "function", "function": {**TOOLS[1]["function"], "strict": True}}
TIME = "<|call|><|start|>assistant to=functions.get_time<|channel|>commentary json<|message|>{}"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with harmony_bench(tmp_path) as made:
        yield made


def tokens(bench: Bench, text: str) -> int:
    return len(ids(bench, text))


async def both_ways(bench: Bench, **fields: Any) -> tuple[dict[str, Any], str]:
    """Message and finish of an answer, which are the same whole and as a stream."""
    choice = (await bench.chat_whole(**fields))["choices"][0]
    whole = {key: one for key, one in choice["message"].items() if key != "refusal"}
    whole["tool_calls"] = [call["function"] for call in whole.get("tool_calls", [])]
    streamed: dict[str, Any] = {"role": "", "content": "", "reasoning_content": "", "tool_calls": []}
    finish = ""
    for event in await bench.chat_events(**fields):
        for one in event["choices"] if isinstance(event, dict) else []:
            finish = one["finish_reason"] or finish
            for key, value in one["delta"].items():
                if key != "tool_calls":
                    streamed[key] += value
                    continue
                for call in value:
                    if "id" in call:
                        streamed["tool_calls"].append({"name": call["function"]["name"], "arguments": ""})
                    streamed["tool_calls"][call["index"]]["arguments"] += call["function"]["arguments"]
    assert {key: one for key, one in streamed.items() if one} == {
        key: one for key, one in whole.items() if one
    }
    assert finish == choice["finish_reason"]
    return streamed, finish


async def test_thoughts_are_apart_from_the_answer(bench: Bench):
    message, finish = await both_ways(bench)
    assert (message["reasoning_content"], message["content"], finish) == ("Hm, so.", "Yes, indeed.", "stop")
    body = await bench.chat_whole()
    thought = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert thought == tokens(bench, "Hm, so.") < body["usage"]["completion_tokens"]
    assert bench.core.submitted[-1].constraint is bench.core.submitted[-1].thinking is None
    # What ends an answer in this format does, also where the configuration does not know it.
    ids = bench.core.submitted[-1].sampling.stop_token_ids
    assert [bench.text.token_text(one) for one in ids] == ["<|return|>", "<|call|>"]
    assert not (await ignoring(bench)).stop_token_ids


async def ignoring(bench: Bench) -> Any:
    bench.say(f"{FINAL}Yes", end=False)
    await bench.chat_whole(ignore_eos=True)
    return bench.core.submitted[-1].sampling


async def test_calls_end_an_answer(bench: Bench):
    bench.say(f"{THOUGHT}{SAID}{CALL}")
    message, finish = await both_ways(bench, tools=TOOLS)
    assert (message["reasoning_content"], message["content"], finish) == ("Hm, so.", "I look.", "tool_calls")
    assert message["tool_calls"] == [{"name": "get_weather", "arguments": ARGUMENTS}]
    bench.say(f"{CALL}{TIME}")
    message, finish = await both_ways(bench, tools=TOOLS)
    assert [call["name"] for call in message["tool_calls"]] == ["get_weather", "get_time"]
    assert (message["content"], finish) == ("", "tool_calls")
    body = await bench.chat_whole(functions=[tool["function"] for tool in TOOLS])
    assert body["choices"][0]["message"]["function_call"] == {"name": "get_weather", "arguments": ARGUMENTS}
    # Nobody offered this one.
    message, finish = await both_ways(bench)
    assert message["content"].startswith(f"to=functions.get_weather {ARGUMENTS}")
    assert (message["tool_calls"], finish) == ([], "stop")


async def test_a_stream_with_tools_begins_without_an_empty_content(bench: Bench):
    bench.say(CALL)
    for fields, first in (
        ({"tools": TOOLS}, {"role": "assistant"}),
        ({}, {"role": "assistant", "content": ""}),
    ):
        assert (await bench.chat_events(**fields))[0]["choices"][0]["delta"] == first


async def test_an_answer_that_was_cut_tells_what_was_said(bench: Bench):
    whole = bench.say(f"{THOUGHT}{CALL}", end=False)
    reasoning, arguments = "", ""
    for limit in range(1, len(whole)):
        message, finish = await both_ways(bench, tools=TOOLS, max_tokens=limit)
        assert finish == "length"
        assert not message["content"]
        assert message["reasoning_content"].startswith(reasoning)
        reasoning = message["reasoning_content"]
        for call in message["tool_calls"]:
            assert call["name"] == "get_weather" and call["arguments"].startswith(arguments)
            arguments = call["arguments"]
    assert (reasoning, arguments) == ("Hm, so.", ARGUMENTS[:-1])


@pytest.mark.parametrize(
    ("stop", "reasoning", "content"),
    [
        ("inde", "Hm, so.", "Yes, "),
        (", so", "Hm", ""),
        # Headers are no text, and no stop string goes on behind a mark.
        ("final", "Hm, so.", "Yes, indeed."),
        ("analysis", "Hm, so.", "Yes, indeed."),
        ("assistant", "Hm, so.", "Yes, indeed."),
        ("so.Yes", "Hm, so.", "Yes, indeed."),
    ],
)
async def test_stop_strings_are_those_of_texts(bench: Bench, stop: str, reasoning: str, content: str):
    message, finish = await both_ways(bench, stop=[stop])
    assert (message["reasoning_content"], message["content"], finish) == (reasoning, content, "stop")


@pytest.mark.parametrize(
    ("answer", "stop", "content", "calls"),
    [
        (" to=functions.get_weather<|channel|>commentary json<|message|>{}", "get", "", ["get_weather"]),
        (" to=functions.get_weather<|channel|>commentary json<|message|>{}", " to", "", ["get_weather"]),
        (" to=x, to be or not", " to be", " to=x,", []),
        (" to be", "be", " to ", []),
        (" to=functions.x", "x", " to=functions.", []),
        (f"{FINAL}Yes,<|constrain|> stop here", "stop", "Yes, ", []),
        ("<|channel|>final <|constrain|>stop<|message|>Yes", "stop", "Yes", []),
    ],
)
async def test_stop_strings_know_headers_from_texts(
    bench: Bench, answer: str, stop: str, content: str, calls: list[str]
):
    bench.say(answer)
    message, _ = await both_ways(bench, stop=[stop], tools=TOOLS)
    assert (message["content"], [one["name"] for one in message["tool_calls"]]) == (content, calls)


async def test_a_call_that_a_stop_string_cut_off_is_none_to_act_on(bench: Bench):
    bench.say(f"{THOUGHT}{CALL}")
    message, finish = await both_ways(bench, tools=TOOLS, stop=["Bern"])
    assert finish == "stop"
    assert message["tool_calls"] == [{"name": "get_weather", "arguments": '{"city": "'}]


async def test_what_has_no_form_is_said_as_it_is(bench: Bench):
    for text in ("No header at all.", "Yes.", ""):
        bench.say(text)
        assert (await both_ways(bench, stop=["zzz"]))[0]["content"] == text
    bench.say("No header at all.")
    assert (await both_ways(bench, stop=["at"]))[0]["content"] == "No header "


async def test_log_probabilities_are_those_of_the_content(bench: Bench):
    bench.say(f"{THOUGHT}{SAID}{THOUGHT}{FINAL}Yes, indeed.")
    body = await bench.chat_whole(logprobs=True)
    choice = body["choices"][0]
    assert choice["message"]["content"] == "I look.\n\nYes, indeed."
    told = [entry["token"] for entry in choice["logprobs"]["content"]]
    assert "".join(told) == "I look.Yes, indeed."
    streamed = [
        entry["token"]
        for event in await bench.chat_events(logprobs=True)
        if isinstance(event, dict)
        for one in event["choices"]
        if one["logprobs"]
        for entry in one["logprobs"]["content"]
    ]
    assert streamed == told


async def test_half_a_character_in_front_of_a_mark_has_its_own_tokens(bench: Bench):
    halves = bench.text.tokenizer.encode("é", add_special_tokens=False).ids[:1]
    bench.core.answer = [
        *ids(bench, f"{FINAL}Yes"),
        *halves,
        *ids(bench, f"<|end|><|start|>assistant{FINAL}Go"),
        2,
    ]
    (choice,) = (await bench.chat_whole(logprobs=True))["choices"]
    assert choice["message"]["content"] == "Yes\ufffd\n\nGo"
    assert "".join(one["token"] for one in choice["logprobs"]["content"]) == "Yes\ufffdGo"


def ids(bench: Bench, text: str) -> list[int]:
    return list(bench.text.tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize(
    ("fields", "holds", "lacks"),
    [
        ({"tools": TOOLS, "tool_choice": "required"}, ["start: thought* (call_0 | call_1)", '"city"'], []),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_time"}}}, ["start: thought* (call_0)", "to=functions.get_time"], ["get_weather"]),
        ({"tools": [*TOOLS[:1], STRICT]}, ["start: (thought | said)* (final | call_0 | call_1)"], ['"city"']),
        ({"tools": TOOLS, "response_format": {"type": "json_object"}}, ["start: thought* (final | call_0 | call_1)", "answer: %json"], []),
        ({"tools": TOOLS, "guided_regex": "a+"}, ["answer: %lark {\nstart: /a+/\n}"], []),
        ({"response_format": {"type": "json_object"}}, ["start: thought* (final)"], ["functions"]),
        ({"reasoning_effort": 77}, ["start: thought? (final)", "thinking[max_tokens=77]"], []),
        ({"reasoning_effort": "none", "tools": TOOLS}, ["start: said* (final | call_0 | call_1)"], ["max_tokens"]),
        ({"thinking": {"type": "disabled"}}, ["start:  (final)"], []),
    ],
)  # fmt: skip
async def test_what_binds_the_answer(
    bench: Bench, fields: dict[str, Any], holds: list[str], lacks: list[str]
):
    await bench.chat_whole(**fields)
    submit = bench.core.submitted[0]
    assert submit.constraint and submit.constraint.kind == "lark" and submit.thinking is None
    assert all(one in submit.constraint.text for one in holds), submit.constraint.text
    assert not any(one in submit.constraint.text for one in lacks)


@pytest.mark.parametrize("fields", [
    {"tools": TOOLS}, {"tools": TOOLS, "parallel_tool_calls": False}, {"functions": [TOOLS[1]["function"]]},
    *({"reasoning_effort": word} for word in ("minimal", "low", "high", "max", True)), {"thinking": {"type": "adaptive"}},
])  # fmt: skip
async def test_nothing_is_bound_that_nobody_asked_for(bench: Bench, fields: dict[str, Any]):
    await bench.chat_whole(**fields)
    assert bench.core.submitted[0].constraint is None


async def test_what_cannot_be_kept_is_named(bench: Bench):
    parameters = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    bench.say("<|channel|>commentary to=functions.f<|message|>{}")
    async with bench.chat(tools=[tool], tool_choice="required", stop=["x"]) as reply:
        assert reply.status == 200, await reply.text()
        assert reply.headers["x-kindling-ignored"] == "tools.function.parameters.uniqueItems,stop"
    strict = {**tool, "function": {**tool["function"], "strict": True}}
    async with bench.chat(tools=[strict]) as reply:
        error = (await reply.json())["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "unsupported_schema", "tools")
    async with bench.chat(response_format={"type": "grammar", "grammar": "start: x"}) as reply:
        error = (await reply.json())["error"]
    assert (reply.status, error["code"], error["param"]) == (400, "invalid_schema", "response_format")
