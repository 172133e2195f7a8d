"""Arguments between tags: how they stream, what they are in JSON, and what a chat makes of them."""
# ruff: noqa: E501 - calls read best unwrapped

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kindling_chat_templates import ARGUMENT_TAGS as ARGUMENTS_TEMPLATE
from kindling_chat_templates import FUNCTION_TAGS as FUNCTIONS_TEMPLATE
from kindling_chat_templates import TOOLS
from kindling_engine.server.tools.deltas import ToolCallArguments, ToolCallStart
from kindling_engine.server.tools.tagged import FUNCTION_TAGS, TaggedParser
from kindling_engine.server.tools.tagged_values import argument_of, value_text
from kindling_fake_core import Bench, fake_bench
from kindling_reasoner import family_text

OFFERED: dict[str, dict[str, Any]] = {
    "find": {"properties": {"q": {"type": "string"}, "n": {"type": "array"}}}
}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        yield made


def test_texts_between_tags_stream_and_other_values_come_whole():
    parser = TaggedParser(OFFERED, FUNCTION_TAGS)
    start, first = parser.feed("<tool_call>\n<function=find>\n<parameter=q>\nHel")
    assert isinstance(start, ToolCallStart) and start.name == "find"
    assert first == ToolCallArguments(0, '{"q": "Hel')
    assert parser.feed('lo "x"\n</para') == [ToolCallArguments(0, 'lo \\"x\\"')]
    assert parser.feed("meter>\n<parameter=n>\n[1, ") == [ToolCallArguments(0, '", "n": ')]
    assert parser.feed("2]\n</parameter>\n") == [ToolCallArguments(0, "[1, 2]")]
    assert parser.feed("</function>\n</tool_call>") == [ToolCallArguments(0, "}")]


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "5", '"5"'),
        ({}, "5", '"5"'),
        ({"type": "number"}, " 1e3\n", "1e3"),
        ({"type": "number"}, "1e999", "1e999"),
        ({"type": "number"}, "Infinity", '"Infinity"'),
        ({"type": "integer"}, "5.0", "5"),
        ({"type": "array"}, '["\\ud800", 1.10]', '["\\ud800", 1.10]'),
        ({"allOf": [{"$ref": "#/$defs/o"}], "description": "x"}, '{"a": 1}', '{"a": 1}'),
        ({"$ref": "#/$defs/o", "description": "x"}, '{"a": 1}', '{"a": 1}'),
        ({"anyOf": [{"$ref": "#/$defs/o"}, {"type": "null"}]}, "null", "null"),
        ({"enum": ["1", 2]}, "1", '"1"'),
        ({"enum": ["1", 2]}, "2", "2"),
        ({"type": "string", "enum": ["a", 1]}, "1", '"1"'),
        ({"type": ["integer", "string"], "enum": [1, "b"]}, "1", "1"),
        (False, "1", '"1"'),
        ({"type": ["integer", "null"]}, "None", "null"),
        ({"enum": [1, 2]}, "2", "2"),
        ({"const": "a"}, "a", '"a"'),
        ({"enum": ["a", 1]}, "1", "1"),
        ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, "01", '"01"'),
        ({"oneOf": [{"type": "integer"}, {"description": "?"}]}, "1", "1"),
        ({"properties": {"a": {}}}, '{"a": 1}', '{"a": 1}'),
        ({"items": {}}, "[]", "[]"),
        ({"type": "boolean"}, " true\n", "true"),
        ({"type": "boolean"}, "yes", '"yes"'),
        ({"type": "object"}, "[" * 100_000, json.dumps("[" * 100_000)),
        ({"$ref": "#/properties/x"}, "1", '"1"'),
        ({"$ref": "#/$defs/a~1b"}, "1", "1"),
        ({"$ref": "https://example.com/x"}, "1", '"1"'),
        ({"anyOf": [{"anyOf": [{"$ref": "#"}]}]}, "1", '"1"'),
    ],
)
def test_a_text_between_tags_is_of_its_parameters_type(schema: dict[str, Any], text: str, value: str):
    root = {"properties": {"x": schema}, "$defs": {"a/b": {"type": "integer"}, "o": {"type": "object"}}}
    assert value_text(text, argument_of(schema, root)) == value


TAGGED = "<tool_call>\n<function=get_weather>\n<parameter=city>\n5\n</parameter>\n<parameter=days>\n[1]\n</parameter>\n</function>\n</tool_call>"
TAGGED_GLM = "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>5</arg_value>\n<arg_key>days</arg_key>\n<arg_value>[1]</arg_value>\n</tool_call>"


@pytest.mark.parametrize(
    ("template", "said"),
    [(FUNCTIONS_TEMPLATE, TAGGED), (ARGUMENTS_TEMPLATE, TAGGED_GLM)],
    ids=["functions", "arguments"],
)
@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_arguments_between_tags_become_json_of_their_types(
    bench: Bench, template: str, said: str, choice: str
):
    bench.front.text = family_text(template)
    bench.say(said)
    body = await bench.chat_whole(tools=TOOLS, tool_choice=choice)
    assert body["choices"][0]["finish_reason"] == "tool_calls"
    (call,) = body["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "5", "days": [1]}'}
    events = await bench.chat_events(tools=TOOLS, tool_choice=choice)
    deltas = [choice["delta"] for one in events if isinstance(one, dict) for choice in one["choices"]]
    pieces = [one["function"].get("arguments", "") for delta in deltas for one in delta.get("tool_calls", [])]
    assert "".join(pieces) == call["function"]["arguments"]


def tool(parameters: dict[str, Any], **function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "parameters": parameters, **function}}


async def test_what_a_text_between_tags_is_not_held_to_is_named(bench: Bench):
    bench.front.text = family_text(FUNCTIONS_TEMPLATE)
    bench.say("<tool_call>\n<function=f>\n</function>\n</tool_call>")
    parameters = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}}
    async with bench.chat(tools=[tool(parameters)], tool_choice="required") as reply:
        assert reply.status == 200, await reply.text()
        assert reply.headers["x-kindling-ignored"] == "tools.function.parameters.format"
    async with bench.chat(tools=[tool(parameters, strict=True)]) as reply:
        assert reply.status == 400
        error = (await reply.json())["error"]
    assert error["code"] == "unsupported_schema" and "format" in error["message"]
