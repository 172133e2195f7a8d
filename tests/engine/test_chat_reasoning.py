"""Models that reason: what is asked of template and core, and what the client is told."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_chat_templates import QWEN, TOOLS
from kindling_engine.protocol.sampling import Thinking
from kindling_fake_core import Bench, fake_bench
from kindling_reasoner import family_text

MARKS = ("<think>", "</think>")
OPEN = "{% for m in messages %}{{ m.content }}{% endfor %}|{{ reasoning_effort }}|<think>\n{# </think> #}"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.front.text = family_text(QWEN, marks=MARKS)
        made.say("<think>\nHm, so.\n</think>\n\nYes.")
        yield made


def prompt(bench: Bench) -> str:
    return str(bench.text.tokenizer.decode(bench.core.submitted[-1].prompt_ids, skip_special_tokens=False))


def ids(bench: Bench, text: str) -> list[int]:
    return list(bench.text.tokenizer.encode(text, add_special_tokens=False).ids)


async def test_reasoning_is_apart_from_content(bench: Bench):
    body = await bench.chat_whole()
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm, so.", "Yes.")
    tokens = len(ids(bench, "\nHm, so.\n"))
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == tokens
    events = await bench.chat_events()
    told = [one["choices"][0]["delta"] for one in events if isinstance(one, dict) and one["choices"]]
    assert "".join(delta.get("reasoning_content", "") for delta in told) == "Hm, so."
    assert "".join(delta.get("content", "") for delta in told) == "Yes."
    assert events[-2]["usage"]["completion_tokens_details"]["reasoning_tokens"] == tokens
    assert bench.core.submitted[0].thinking is None  # nothing was asked that the core would have to watch


async def test_reasoning_and_calls_in_one_answer(bench: Bench):
    bench.say('<think>\nHm.</think>\n\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>')
    body = await bench.chat_whole(tools=TOOLS)
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm.", None)
    assert message["tool_calls"][0]["function"]["name"] == "get_time"


async def test_an_answer_may_begin_inside_its_reasoning(bench: Bench):
    bench.front.text = family_text(OPEN, marks=MARKS)
    bench.say("Hm.\n</think>\n\nYes.")
    body = await bench.chat_whole()
    message = body["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Yes.")
    await bench.chat_whole(reasoning_effort=5)
    asked = bench.core.submitted[-1].thinking
    assert asked == Thinking(
        start_ids=ids(bench, "<think>"), end_ids=ids(bench, "</think>"), budget=5, open=True
    )
    await bench.chat_whole(reasoning_effort="low")
    assert "|low|" in prompt(bench)


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        ({"reasoning_effort": "low"}, 1024),
        ({"reasoning_effort": 77}, 77),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, 9),
        ({"reasoning_effort": "max"}, None),
        ({"reasoning_effort": True}, None),
        ({"thinking": {"type": "enabled"}}, None),
        ({"thinking": {"type": "adaptive"}}, None),
    ],
)
async def test_a_budget_reaches_the_core(bench: Bench, fields: dict[str, Any], budget: int | None):
    await bench.chat_whole(**fields)
    asked = bench.core.submitted[0].thinking
    assert (asked and asked.budget) == budget
    assert asked is None or not asked.open
    assert prompt(bench).endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"reasoning_effort": False},
        {"reasoning_effort": 0},
        {"thinking": {"type": "disabled"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
async def test_reasoning_can_be_switched_off_in_the_template(bench: Bench, fields: dict[str, Any]):
    bench.say("Yes.")
    body = await bench.chat_whole(**fields)
    assert prompt(bench).endswith("<think>\n\n</think>\n\n")
    assert bench.core.submitted[0].thinking is None
    assert body["choices"][0]["message"]["content"] == "Yes."
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


async def test_a_format_binds_the_answer_behind_the_reasoning(bench: Bench):
    await bench.chat_whole(response_format={"type": "json_object"})
    submit = bench.core.submitted[0]
    assert submit.constraint
    assert submit.thinking
    assert (submit.thinking.budget, submit.thinking.open) == (-1, False)


async def test_without_reasoning_only_none_can_be_asked(bench: Bench):
    bench.front.text = family_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    bench.say("Yes.")
    for fields in (
        {"reasoning_effort": "none"},
        {"reasoning_effort": False},
        {"thinking": {"type": "disabled"}},
    ):
        body = await bench.chat_whole(**fields)
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    for fields in (
        {"reasoning_effort": "high"},
        {"thinking": {"type": "enabled"}},
        {"reasoning_history": "preserved"},
    ):
        assert await refused(bench, **fields) == ("unsupported_field", next(iter(fields)))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"reasoning_effort": -1}, "reasoning_effort"),
        ({"reasoning_effort": 1.5}, "reasoning_effort"),
        ({"reasoning_effort": [1]}, "reasoning_effort"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "disabled", "budget_tokens": 5}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled"}, "reasoning_effort": "low"}, "thinking"),
        ({"reasoning_history": "some"}, "reasoning_history"),
        ({"reasoning_history": {}}, "reasoning_history"),
    ],
)
async def test_a_bad_wish_is_named(bench: Bench, fields: dict[str, Any], param: str):
    assert await refused(bench, **fields) == ("invalid_value", param)


async def refused(bench: Bench, **fields: Any) -> tuple[str, str]:
    async with bench.chat(**fields) as reply:
        assert reply.status == 400, await reply.text()
        error = json.loads(await reply.read())["error"]
    return error["code"], error["param"]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
async def test_which_earlier_reasoning_the_prompt_shows(bench: Bench, name: str):
    call = {"id": "c", "type": "function", "function": {"name": "get_time", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two", "reasoning_content": "EARLY"},
        {"role": "user", "content": "Three"},
        {"role": "assistant", "content": "", "tool_calls": [call], name: "LATE"},
        {"role": "tool", "tool_call_id": "c", "content": "12:00"},
    ]
    shown = {}
    for history in (None, "interleaved", "disabled"):
        await bench.chat_whole(messages=messages, reasoning_history=history)
        shown[history] = [name for name in ("EARLY", "LATE") if name in prompt(bench)]
    assert shown == {None: ["LATE"], "interleaved": ["LATE"], "disabled": []}
    # This template drops what lies before the last question.
    assert await refused(bench, messages=messages, reasoning_history="preserved") == (
        "unsupported_field",
        "reasoning_history",
    )
    await bench.chat_whole(messages=messages[2:], reasoning_history="preserved")
    assert "LATE" in prompt(bench)
