"""Messages that clients and proxies send back as they got them: taken as what they say, never a dead end."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_chat_templates import FAMILIES, RAW_ARGUMENTS, TOOLS
from kindling_engine.server.chat_template import ChatTemplate
from kindling_engine.server.messages import messages_ignored, messages_read
from kindling_fake_core import Bench, fake_bench

ASKED = {"role": "user", "content": "Hi"}
TEMPLATES = {**FAMILIES, "raw": RAW_ARGUMENTS}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("x")
        yield made


def replied(**fields: Any) -> dict[str, Any]:
    (message,) = messages_read([{"role": "assistant", **fields}])
    return message


def called(**function: Any) -> dict[str, Any]:
    call = {"id": "call00001", "type": "function", "function": {"name": "get_time", **function}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        (" \n", {}),
        ("null", {}),
        (None, {}),
        ('{"city": "Be', {"INVALID_JSON": '{"city": "Be'}),
        ('"x"', {"INVALID_JSON": '"x"'}),
        ("[1]", {"INVALID_JSON": "[1]"}),
        ("7", {"INVALID_JSON": "7"}),
        ('{"a": "\\ud800"}', {"INVALID_JSON": '{"a": "\\ud800"}'}),
        ("[" * 100_000, {"INVALID_JSON": "[" * 100_000}),
    ],
)
def test_arguments_are_an_object_whatever_a_model_made_of_them(given: str | None, read: dict[str, Any]):
    (message,) = messages_read([called(arguments=given)])
    assert message["tool_calls"][0]["function"]["arguments"] == read
    (message,) = messages_read([{"role": "assistant", "function_call": {"name": "f", "arguments": given}}])
    assert message["tool_calls"][0]["function"]["arguments"] == read


def test_a_call_without_arguments_has_none():
    (message,) = messages_read([called()])
    assert message["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize("family", sorted(TEMPLATES))
def test_every_family_s_template_shows_a_broken_call(family: str):
    result = {"role": "tool", "name": "get_time", "tool_call_id": "call00001", "content": "no such city"}
    messages = messages_read([ASKED, called(arguments='{"city": "Be'), result])
    template = ChatTemplate(TEMPLATES[family], {"bos_token": "", "eos_token": ""})
    shown = template.render(messages, TOOLS)
    assert "INVALID_JSON" in shown
    # Quoted once, or between tags as it is.
    assert json.dumps('{"city": "Be') in shown or '{"city": "Be\n' in shown or '{"city": "Be<' in shown


async def test_a_loop_of_tools_goes_on_behind_a_call_that_was_cut_off(bench: Bench):
    result = {"role": "tool", "tool_call_id": "call00001", "content": "no such city"}
    broken = [called(arguments=text) for text in ('{"city": "Be', '{"city": "\\ud800"}')]
    await bench.chat_whole(messages=[ASKED, broken[0], result, broken[1], result], tools=TOOLS)
    assert len(bench.core.submitted) == 1


@pytest.mark.parametrize("fields", [{}, {"content": None}, {"content": None, "tool_calls": None}])
def test_a_reply_that_said_nothing_is_empty(fields: dict[str, Any]):
    assert replied(**fields) == {"role": "assistant", "content": ""}
    thought = replied(**fields, reasoning_content="Hm.")
    assert (thought["content"], thought["reasoning_content"]) == ("", "Hm.")


def test_a_refusal_is_what_a_reply_said():
    assert replied(content=None, refusal="No.")["content"] == "No."
    assert replied(refusal="No.")["content"] == "No."
    assert replied(content=[{"type": "refusal", "refusal": "No."}])["content"] == "No."
    assert replied(content="Yes.", refusal="No.")["content"] == "Yes."


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_a_reply_with_no_calls_and_no_content_says_nothing(content: dict[str, Any]):
    assert replied(tool_calls=[], **content) == {"role": "assistant", "content": ""}


def test_what_says_nothing_is_not_named():
    said = {"role": "assistant", "content": None, "refusal": "No.", "annotations": [], "audio": None}
    assert messages_ignored([ASKED, said]) == ()


async def test_what_others_add_to_a_reply_is_taken_and_named(bench: Bench):
    added = {
        "parsed": {"a": 1},
        "provider_specific_fields": {"x": 1},
        "annotations": [{"type": "url_citation"}],
        "refusal": "No.",
    }
    reply = {"role": "assistant", "content": "x", **added}
    async with bench.chat(messages=[ASKED, reply, ASKED, reply, ASKED]) as answer:
        assert answer.status == 200, await answer.text()
        ignored = answer.headers["x-kindling-ignored"].split(",")
    assert sorted(ignored) == sorted(f"messages.{name}" for name in added)
    plain = {"role": "assistant", "content": "x"}
    await bench.chat_whole(messages=[ASKED, plain, ASKED, plain, ASKED])
    assert bench.core.submitted[1].prompt_ids == bench.core.submitted[0].prompt_ids


async def test_who_speaks_is_named_where_the_template_does_not_say_it(bench: Bench):
    told = {"role": "tool", "tool_call_id": "call00001", "name": "f", "content": "done"}
    call = {"id": "call00001", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called = [ASKED, {"role": "assistant", "tool_calls": [call]}, told]
    for messages, ignored in (
        ([ASKED | {"name": "Bob"}], "messages.name"),
        ([ASKED | {"name": ""}], None),
        (called, None),
    ):
        async with bench.chat(messages=messages) as answer:
            assert answer.status == 200, await answer.text()
            assert answer.headers.get("x-kindling-ignored") == ignored


@pytest.mark.parametrize(
    ("body", "shows"),
    [
        ("{{ m.name }}", True),
        ("{{ m['name'] }}", True),
        ("{{ m.get('name', 'x') }}", True),
        ("{% if 'name' in m %}{{ m['role'] }}{% endif %}", False),
        ("{% for call in m.tool_calls %}{{ call.name }}{{ call.function.name }}{% endfor %}", False),
        ("{{ m.content }}{{ m.get('role') }}{{ tool.name }}", False),
    ],
)
def test_a_template_that_reads_names_of_messages_is_told_apart(body: str, shows: bool):
    for over in ("messages", "messages[1:]", "loop_messages", "messages | list"):
        source = f"{{% for m in {over} %}}{body}{{% endfor %}}"
        assert ChatTemplate(source, {}).shows_speakers is shows
    assert not ChatTemplate(
        "{{ tools[0].name }}{% for t in tools %}{{ t.name }}{% endfor %}", {}
    ).shows_speakers


async def test_what_stands_beside_parts_and_calls_is_named_once_and_only_if_it_is_a_name(bench: Bench):
    """As an answer's header has to hold it."""
    mark = {"cache_control": {"type": "ephemeral"}, "annotations": None, "a\r\nset-cookie": 1, "x" * 41: 1}
    asked = {"role": "user", "content": [{"type": "text", "text": "x", **mark}] * 2}
    call = {
        "id": "call00001",
        "type": "function",
        "index": 0,
        "function": {"name": "f", "arguments": "{}", "odd": 1},
    }
    called = {"role": "assistant", "tool_calls": [call]}
    told = {"role": "tool", "tool_call_id": "call00001", "content": "done"}
    async with bench.chat(messages=[asked, called, told]) as answer:
        assert answer.status == 200, await answer.text()
        ignored = answer.headers["x-kindling-ignored"].split(",")
    places = ("content.cache_control", "tool_calls.index", "tool_calls.function.odd")
    assert ignored == [f"messages.{place}" for place in places]
    many = {"role": "user", "content": [{"type": "text", "text": "x", **{f"n{i}": i for i in range(99)}}]}
    assert len(messages_ignored([many])) == 8
