"""JSON Schema keyword by keyword: kept, kept in another form, or refused with its place."""

import json

import jsonschema
import numpy as np
import pytest

from kindling_engine.constraints.grammar import CompiledGrammar
from kindling_grammars import accepts, compiler, random_text


def grammar(schema: object) -> CompiledGrammar:
    return compiler().compile("json_schema", schema if isinstance(schema, str) else json.dumps(schema))


def validator(schema: dict) -> jsonschema.protocols.Validator:
    legacy = isinstance(schema.get("items"), list) or "dependencies" in schema
    kind = jsonschema.Draft7Validator if legacy else jsonschema.Draft202012Validator
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


NAMED = {"type": "object", "properties": {"a": {}, "b": {}}}

KEPT = [
    ({"not": {"type": "string"}}, ["1", "null", '{"a":1}'], ['"x"']),
    ({"not": {"type": "object", "required": ["a", "b"]}}, ['{"a":1}', "{}", "3"], ['{"a":1,"b":2}']),
    ({**NAMED, "not": {"required": ["a"]}}, ["{}", '{"b":1}'], ['{"a":1}', '{"a":1,"b":1}']),
    ({"type": "integer", "not": {"minimum": 5}}, ["4", "-70"], ["5", "60"]),
    (
        {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {"type": "integer"}},
        ["{}", '{"a":1,"b":2}'],
        ['{"a":"x"}'],
    ),
    (
        {**NAMED, "if": {"required": ["a"]}, "then": {"required": ["b"]}},
        ["{}", '{"b":1}', '{"a":1,"b":2}'],
        ['{"a":1}'],
    ),
    (
        {**NAMED, "if": {"properties": {"a": {"type": "string"}}}, "else": {"required": ["b"]}},
        ["{}", '{"a":"x"}', '{"a":1,"b":2}'],
        ['{"a":1}'],
    ),
    ({**NAMED, "dependencies": {"a": ["b"]}}, ["{}", '{"b":1}', '{"a":1,"b":2}'], ['{"a":1}']),
    ({**NAMED, "dependentRequired": {"a": ["b"]}}, ["{}", '{"a":1,"b":2}'], ['{"a":1}']),
    (
        {**NAMED, "dependentSchemas": {"a": {"properties": {"b": {"type": "integer"}}}}},
        ['{"b":"x"}', '{"a":1,"b":2}'],
        ['{"a":1,"b":"x"}'],
    ),
    (
        {**NAMED, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        ['{"a":1}', '{"b":1}'],
        ["{}", '{"a":1,"b":1}'],
    ),
    (
        {
            "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
            "$defs": {
                "cat": {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]},
                "dog": {"type": "object", "properties": {"kind": {"enum": ["dog"]}}, "required": ["kind"]},
            },
        },
        ['{"kind":"cat"}', '{"kind":"dog","x":[1]}'],
        ['{"kind":"cow"}', "{}"],
    ),
    ({"oneOf": [{"type": "integer"}, {"type": "null"}]}, ["12", "null"], ['"x"', "1.5"]),
    (
        {"type": "string", "format": "date"},
        ['"2024-02-29"', '"1999-12-31"', '"2000-02-29"'],
        ['"2023-02-29"', '"1900-02-29"', '"2024-13-01"'],
    ),
    (
        {"type": "string", "format": "time"},
        ['"23:59:60Z"', '"01:02:03+05:30"'],
        ['"22:59:60Z"', '"24:00:00Z"', '"01:02:03"'],
    ),
    ({"type": "string", "format": "date-time"}, ['"2024-02-29T10:20:30.5Z"'], ['"2023-02-29T10:20:30Z"']),
    ({"type": "string", "format": "json-pointer"}, ['""', '"/a~1b/0"'], ['"a"', '"/~2"']),
    ({"type": "string", "format": "date", "pattern": "^2"}, ['"2024-01-01"'], ['"1999-01-01"']),
    ({"type": "string", "format": "colour-of-the-season"}, ['"green"'], ["1"]),
    ({"type": "string", "pattern": "^[[a]]$"}, ['"a]"', '"[]"'], ['"a"']),
    ({"type": "string", "pattern": r"^[\w&&~]+$"}, ['"a&~"'], ['"-"']),
    ({"type": "string", "pattern": "a|^b"}, ['"xa"', '"bx"'], ['"xb"']),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"äöü"', '"\\n\\n"'], ['"a"', '"abcd"']),
    ({"type": "object", "minProperties": 1}, ['{"a":1}'], ["{}"]),
    (
        {"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
        ['{"a":1,"b":2}'],
        ['{"a":1,"b":2,"c":3}', '{"a":"x"}'],
    ),
    (
        {"type": "array", "items": [{"type": "integer"}], "additionalItems": False},
        ["[]", "[1]"],
        ["[1,2]", '["x"]'],
    ),
    (
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}, "minItems": 2.0},
        ['[1,"x"]'],
        ["[1]", "[1,2]"],
    ),
    ({"type": "array", "items": False}, ["[]"], ["[1]", "[[]]"]),
    (
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
        ["[]", "[1]"],
        ["[1,2]", '[1,"x"]'],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "array", "items": False}}, "required": ["a"]},
        ['{"a":[]}'],
        ['{"a":[0]}'],
    ),
    ({"type": "array", "items": []}, ["[]", '[1,"x"]'], ["1"]),
    ({"type": "number", "exclusiveMinimum": 0, "maximum": 1.5}, ["0.5", "1.5"], ["0", "1.6"]),
    ({"type": "number", "multipleOf": 0.25}, ["0.75", "3"], ["0.3"]),
    ({"type": ["integer", "null"], "minimum": 3}, ["null", "3"], ["2", "3.5"]),
    ({"enum": [1, "a", None, {"b": [True]}]}, ["1", '"a"', "null", '{"b":[true]}'], ["2", '{"b":[false]}']),
    ({"const": None}, ["null"], ["0"]),
    ({"type": "array", "uniqueItems": False, "items": {"const": 1}}, ["[1,1]"], ["[2]"]),
    (
        {"$ref": "#/components/x%20y", "components": {"x y": {"type": "string", "format": "date"}}},
        ['"2024-02-29"'],
        ['"2023-02-29"'],
    ),
    (
        {
            "type": "object",
            "properties": {"child": {"$ref": "#"}, "v": {"type": "integer"}},
            "additionalProperties": False,
        },
        ['{"child":{"v":1}}'],
        ['{"child":{"w":1}}'],
    ),
]


@pytest.mark.parametrize(("schema", "matching", "others"), KEPT, ids=lambda value: json.dumps(value)[:60])
def test_a_keyword_is_kept(schema: dict, matching: list[str], others: list[str]):
    made = grammar(schema)
    for text in matching:
        validator(schema).validate(json.loads(text))
        assert accepts(made, text), text
    for text in others:
        # Without further packages the validator knows few formats.
        assert "format" in schema or not validator(schema).is_valid(json.loads(text)), text
        assert not accepts(made, text), text


@pytest.mark.parametrize(
    "schema", [schema for schema, _, _ in KEPT], ids=lambda value: json.dumps(value)[:60]
)
def test_random_texts_match(schema: dict):
    made = grammar(schema)
    for seed in range(5):
        text = random_text(made, np.random.default_rng(seed), max_tokens=200)
        if text is not None:
            validator(schema).validate(json.loads(text))


def test_true_allows_any_value():
    assert all(accepts(grammar("true"), text) for text in ("1", '"a"', "[{}]", "null"))


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ('{"a":[1,2]}', True),
        ('{"a": [1, 2]}', True),
        ('{\n  "a": [\n    1,\n    2\n  ]\n}', True),
        ('{\n\t"a": [1]\n}', True),
        (' {"a":[1]}', False),
        ('{"a":[1]} ', False),
        ('{  "a":[1]}', False),
        ('{\n\n"a":[1]}', False),
        ('{"\\u0061":[1]}', False),
    ],
)
def test_the_layouts_that_are_accepted(text: str, ok: bool):
    assert (
        accepts(
            grammar(
                {"type": "object", "properties": {"a": {"type": "array"}}, "additionalProperties": False}
            ),
            text,
        )
        is ok
    )
