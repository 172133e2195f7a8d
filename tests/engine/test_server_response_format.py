"""Constrained answers over HTTP, out of a real engine."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import pytest

from kindling_engine_process import EngineProcess

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "people": {"type": "integer", "minimum": 1}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(tmp_path_factory.mktemp("engine")) as process:
        yield process


def send(engine: EngineProcess, **fields: Any) -> httpx.Response:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Name a city."}],
        "max_tokens": 100,
    } | fields
    return httpx.post(f"{engine.url}/v1/chat/completions", json=body, headers=engine.headers(), timeout=60)


def content(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    (choice,) = reply.json()["choices"]
    assert choice["finish_reason"] == "stop"
    return str(choice["message"]["content"])


@pytest.mark.parametrize("temperature", [0, 1, 2])
def test_an_answer_matches_its_schema(engine: EngineProcess, temperature: float):
    text = content(send(engine, response_format=AS_SCHEMA, temperature=temperature, seed=3))
    jsonschema.validate(json.loads(text), SCHEMA)


def test_every_choice_matches(engine: EngineProcess):
    reply = send(engine, response_format=AS_SCHEMA, n=4, temperature=1.5, seed=1).json()
    assert len(reply["choices"]) == 4
    for choice in reply["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMA)


def test_a_stream_matches_as_a_whole(engine: EngineProcess):
    reply = send(engine, response_format=AS_SCHEMA, stream=True, temperature=1, seed=2)
    events = [line[6:] for line in reply.text.splitlines() if line.startswith("data: {")]
    deltas = [
        choice["delta"].get("content") or "" for event in events for choice in json.loads(event)["choices"]
    ]
    jsonschema.validate(json.loads("".join(deltas)), SCHEMA)


@pytest.mark.parametrize(
    ("field", "value", "texts"),
    [
        (
            "guided_regex",
            "(red|green) [0-9]",
            [f"{colour} {digit}" for colour in ("red", "green") for digit in range(10)],
        ),
        ("guided_grammar", 'start: ("ha" | "ho") "!"', ["ha!", "ho!"]),
        ("guided_json", {"enum": ["north", "south"]}, ['"north"', '"south"']),
        ("guided_json", '{"const": 7}', ["7"]),
        ("response_format", {"type": "grammar", "grammar": 'start: "yes"'}, ["yes"]),
        ("response_format", {"type": "json_object", "schema": {"const": "x"}}, ['"x"']),
    ],
)
def test_every_field_binds(engine: EngineProcess, field: str, value: Any, texts: list[str]):
    assert content(send(engine, **{field: value}, temperature=1)) in texts


def test_free_text_is_free(engine: EngineProcess):
    plain = send(engine, temperature=0, max_tokens=10).json()["choices"]
    assert (
        send(engine, temperature=0, max_tokens=10, response_format={"type": "text"}).json()["choices"]
        == plain
    )


def test_plain_completions_are_held_to_it_too(engine: EngineProcess):
    body = {
        "model": "m",
        "prompt": ["A city:", "Another:"],
        "max_tokens": 100,
        "temperature": 0,
        "response_format": AS_SCHEMA,
    }
    reply = httpx.post(f"{engine.url}/v1/completions", json=body, headers=engine.headers(), timeout=60).json()
    assert len(reply["choices"]) == 2
    for choice in reply["choices"]:
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["text"]), SCHEMA)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "code", "param", "says"),
    [
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"items": {"contains": {}}}},
                }
            },
            "unsupported_schema",
            "response_format",
            "#/items/contains",
        ),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "strnig"}},
                }
            },
            "invalid_schema",
            "response_format",
            "#/type",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}},
            "invalid_value",
            "response_format.json_schema.name",
            "name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "missing_field",
            "response_format.json_schema.schema",
            "required",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}, "more": 1}}},
            "unsupported_field",
            "response_format.json_schema.more",
            "more",
        ),
        (
            {"response_format": {"type": "grammar", "grammar": "start: nobody"}},
            "invalid_schema",
            "response_format",
            "nobody",
        ),
        ({"response_format": "json"}, "invalid_value", "response_format", "object"),
        ({"guided_json": 5}, "invalid_value", "guided_json", "schema"),
        (
            {"guided_json": {"multipleOf": 987654321, "type": "integer"}},
            "unsupported_schema",
            "guided_json",
            "complex",
        ),
        (
            {"guided_regex": "a", "response_format": {"type": "json_object"}},
            "invalid_value",
            "guided_regex",
            "not both",
        ),
        ({"guided_regex": ""}, "invalid_value", "guided_regex", "non-empty"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_any_header(
    engine: EngineProcess, stream: bool, fields: dict, code: str, param: str, says: str
):
    reply = send(engine, stream=stream, **fields)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert says in error["message"]
