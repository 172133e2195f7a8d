"""JSON schemas that are refused: by keyword and place, or because they are none."""

import json
import time
from contextlib import suppress

import pytest

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar import CompiledGrammar
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.constraints.schema import schema_loosen
from kindling_engine.constraints.schema_logic import MOST_STEPS, SchemaLogic
from kindling_grammars import accepts, compiler


def grammar(schema: object) -> CompiledGrammar:
    return compiler().compile("json_schema", schema if isinstance(schema, str) else json.dumps(schema))


def refusal(schema: object) -> ConstraintError:
    with pytest.raises(ConstraintError) as caught:
        grammar(schema)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        r'{"enum": ["\ud83d"]}',
        r'{"properties": {"\ud83d": {}}}',
        r'{"required": ["\udc00"]}',
        r'{"$ref": "#/\ud83d"}',
        r'{"pattern": "\ud83d"}',
        r'{"$schema": "\ud83d"}',
    ],
)
def test_half_a_surrogate_pair_is_no_text(text: str):
    refused = refusal(text)
    assert (refused.code, "surrogate" in refused.message) == ("invalid_schema", True)
    assert accepts(grammar(r'{"enum": ["\ud83d\ude00"]}'), '"\U0001f600"')


REFUSED = [
    ({"properties": {"a": {"contains": {}}}}, "unsupported_schema", '"contains"', "#/properties/a/contains"),
    ({"allOf": [{"uniqueItems": True}]}, "unsupported_schema", '"uniqueItems"', "#/allOf/0/uniqueItems"),
    (
        {"items": {"propertyNames": {"pattern": "a"}}},
        "unsupported_schema",
        '"propertyNames"',
        "#/items/propertyNames",
    ),
    (
        {"unevaluatedProperties": False},
        "unsupported_schema",
        '"unevaluatedProperties"',
        "#/unevaluatedProperties",
    ),
    (
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"contains": {}}}},
        "unsupported_schema",
        '"contains"',
        "#/$defs/a~1b/contains",
    ),
    ({"$ref": "https://example.com/schema"}, "unsupported_schema", '"$ref"', "#/$ref"),
    ({"format": "idn-email"}, "unsupported_schema", "idn-email", "#/format"),
    ({"pattern": "(?=a)b"}, "unsupported_schema", "look-around", "#/pattern"),
    ({"pattern": "(a)\\1"}, "unsupported_schema", "\\1", "#/pattern"),
    ({"patternProperties": {"(": {}}}, "unsupported_schema", "unclosed", "#/patternProperties/("),
    (
        {"patternProperties": {"^a": {"type": "null"}, "a$": {"type": "string"}}},
        "unsupported_schema",
        "patternProperties",
        "#/patternProperties",
    ),
    ({"oneOf": [{"pattern": "a"}, {"pattern": "b"}]}, "unsupported_schema", '"oneOf"', "#/oneOf"),
    (
        {
            "properties": {
                "x": {"oneOf": [{"type": "null"}, {"type": "string"}]},
                "y": {"oneOf": [{"pattern": "a"}, {"pattern": "b"}]},
            }
        },
        "unsupported_schema",
        '"oneOf"',
        "#/properties/y/oneOf",
    ),
    ({"not": {"pattern": "a"}}, "unsupported_schema", '"not"', "#/not"),
    ({"if": {"enum": ["a"]}, "then": {"maxLength": 3}}, "unsupported_schema", '"if"', "#/if"),
    ({"minProperties": 2}, "unsupported_schema", '"minProperties"', "#/minProperties"),
    ({"properties": {"a": {}}, "maxProperties": 3}, "unsupported_schema", "Properties", "#/maxProperties"),
    ({"maxItems": 2001}, "unsupported_schema", '"maxItems"', "#/maxItems"),
    ({"maxLength": 10**9}, "unsupported_schema", '"maxLength"', "#/maxLength"),
    ({"minimum": 2**60}, "unsupported_schema", "2^53", "#/minimum"),
    ({"enum": [[2**60]]}, "unsupported_schema", "2^53", "#/enum"),
    ({"type": "any"}, "invalid_schema", '"type"', "#/type"),
    ({"type": []}, "invalid_schema", '"type"', "#/type"),
    ({"properties": []}, "invalid_schema", '"properties"', "#/properties"),
    ({"properties": {"a": 1}}, "invalid_schema", "object", "#/properties/a"),
    ({"required": True}, "invalid_schema", '"required"', "#/required"),
    ({"enum": []}, "invalid_schema", '"enum"', "#/enum"),
    ({"anyOf": []}, "invalid_schema", '"anyOf"', "#/anyOf"),
    ({"multipleOf": 0}, "invalid_schema", '"multipleOf"', "#/multipleOf"),
    ({"minLength": -1}, "invalid_schema", '"minLength"', "#/minLength"),
    ({"minimum": "1"}, "invalid_schema", '"minimum"', "#/minimum"),
    ({"format": 5}, "invalid_schema", '"format"', "#/format"),
    ({"pattern": 5}, "invalid_schema", '"pattern"', "#/pattern"),
    ({"$ref": 5}, "invalid_schema", '"$ref"', "#/$ref"),
]


@pytest.mark.parametrize(
    ("schema", "code", "names", "place"), REFUSED, ids=lambda value: json.dumps(value)[:60]
)
def test_a_keyword_is_refused_by_name_and_place(schema: dict, code: str, names: str, place: str):
    error = refusal(schema)
    assert error.code == code, error.message
    assert names in error.message
    assert f"(at {place})" in error.message


def test_what_is_not_kept_can_be_left_out():
    schema = {
        "properties": {"a": {"contains": {}, "maxItems": 3}, "b": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"pattern": "(?=a)b", "type": "string"}, "unused": {"contains": {}}},
    }
    loosened, names = schema_loosen(json.dumps(schema))
    assert names == ["contains", "pattern"]
    assert loosened == {
        "properties": {"a": {"maxItems": 3}, "b": {"$ref": "#/$defs/b"}},
        "$defs": {"b": {"type": "string"}, "unused": {"contains": {}}},
    }
    assert accepts(grammar(loosened), '{"a":[1],"b":"x"}')


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"not": {"required": ["a"], "uniqueItems": True}}, "unsupported_schema"),
        ({"patternProperties": {"(?=a)": {}}, "additionalProperties": False}, "unsupported_schema"),
        ({"contains": {}, "type": "any"}, "invalid_schema"),
    ],
)
def test_nothing_is_left_out_where_that_could_forbid_more(schema: dict, code: str):
    with pytest.raises(ConstraintError) as refused:
        schema_loosen(json.dumps(schema))
    assert refused.value.code == code


def test_a_definition_that_nobody_uses_may_hold_anything():
    assert accepts(grammar({"type": "null", "$defs": {"a": {"contains": {}}}}), "null")


@pytest.mark.parametrize(
    "schema",
    [False, {"allOf": [{"type": "null"}, {"type": "string"}]}, {"not": {}}, {"enum": [1], "type": "string"}],
)
def test_a_schema_that_nothing_matches_is_invalid(schema: object):
    error = refusal(schema)
    assert error.code == "invalid_schema"
    assert "No JSON value" in error.message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "5",
        '"x"',
        "[" * 5000,
        '{"a":' * 200 + "{}" + "}" * 200,
        '{"x": "' + "a" * 300_000 + '"}',
    ],
)
def test_what_is_no_schema_is_invalid(text: str):
    assert refusal(text).code == "invalid_schema"


OBJECT = {"type": "object"}
HOSTILE = {
    "combinations": {"allOf": [{"anyOf": [{**OBJECT, "required": [f"p{index}"]} for index in range(8)]}] * 8},
    "repeated references": {
        "$ref": "#/$defs/d0",
        "$defs": {
            **{f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(30)},
            "d30": OBJECT,
        },
    },
    "many values": {"enum": [f"x{index}" for index in range(10_000)]},
    "many options": {**OBJECT, "oneOf": [{"required": [f"p{index}", f"q{index}"]} for index in range(20)]},
    "long strings": {"type": "array", "items": {"type": "string", "minLength": 99_999}, "minItems": 2000},
    "long numbers": {"type": "integer", "multipleOf": 987654321},
    "counted expressions": {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"},
    "deep": {"allOf": [json.loads('{"items":' * 50 + "{}" + "}" * 50)]},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_costs_little(name: str):
    began_s = time.process_time()
    with suppress(ConstraintError):
        grammar(HOSTILE[name])
    assert time.process_time() - began_s < 2.0


def test_a_client_cannot_loosen_the_library():
    assert not accepts(
        grammar({"type": "null", "x-guidance": {"lenient": True, "whitespace_pattern": "x*"}}), "xnull"
    )
    assert refusal({"contains": {}, "x-guidance": {"lenient": True}}).code == "unsupported_schema"


def test_a_grammar_in_gbnf_is_told_apart_from_a_bad_one():
    with pytest.raises(ConstraintError) as refused:
        grammar_text("lark", 'root ::= "yes" | "no"')
    assert refused.value.code == "invalid_schema"
    assert "GBNF" in refused.value.message
    assert grammar_text("lark", 'start: "::="')


@pytest.mark.parametrize(
    "attributes", ['stop="!"', 'max_tokens=5, stop="!"', 'suffix="]", stop = /a/', "lazy,\n stop=/\\//"]
)
def test_a_part_that_ends_by_taking_back_is_refused_by_name(attributes: str):
    with pytest.raises(ConstraintError, match="stop= is not supported") as refused:
        compiler().compile("lark", f'start: "say " t\nt[{attributes}]: /[a-z]{{1,9}}/')
    assert refused.value.code == "unsupported_schema"


@pytest.mark.parametrize(
    "text",
    [
        'start: "a[stop=" t\nt: /[a-z]{1,9}/',
        'start: "x" t\nt[suffix="stop="]: /[a-z]*/',
        'stop: "a"\nstart: stop',
    ],
)
def test_what_only_looks_like_it_is_kept(text: str):
    assert compiler().compile("lark", text)


def _recursive(names: int) -> dict:
    each = [f"p{number}" for number in range(names)]
    return {
        kind: {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/{kind}"} for name in each},
            "required": each,
        }
        for kind in ("R", "S")
    }


@pytest.mark.parametrize(
    "asked",
    [
        {"oneOf": [{"$ref": "#/$defs/R"}, {"$ref": "#/$defs/S"}]},
        {"not": {"$ref": "#/$defs/R"}},
        {"if": {"$ref": "#/$defs/R"}, "then": {"type": "object"}},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_proofs_that_branch_without_end_are_given_up(asked: dict, monkeypatch: pytest.MonkeyPatch):
    steps = 0
    spend = SchemaLogic._spend

    def counted(logic: SchemaLogic) -> None:
        nonlocal steps
        steps += 1
        spend(logic)

    monkeypatch.setattr(SchemaLogic, "_spend", counted)
    error = refusal({"$defs": _recursive(24), **asked})
    assert error.code == "unsupported_schema" and next(iter(asked)) in error.message
    assert 0 < steps <= 3 * MOST_STEPS


@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"properties": {f"p{number}": {"type": "null"} for number in range(2001)}}, "2,001 properties"),
        (
            {"properties": {f"p{number}": {"type": "string", "pattern": "a"} for number in range(501)}},
            "501 patterns and formats",
        ),
    ],
)
def test_schemas_that_take_seconds_to_build_are_refused(schema: dict, what: str):
    error = refusal(schema)
    assert error.code == "unsupported_schema" and what in error.message


@pytest.mark.parametrize("name", ["?t", "!t", "t.1"])
def test_modifiers_of_a_rule_hide_nothing(name: str):
    with pytest.raises(ConstraintError, match="stop= is not supported"):
        grammar_text("lark", f'start: "say " t\n{name}[stop="!"]: /[a-z]{{1,9}}/')


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ('start: "x"\n' + "a[\n" * 60_000, "Expected token 'rule_name'"),
        ('start: "x"' + "\n" * 200_000, ""),
        ('"\\"' * 80_000, "lexer error"),
        ("::=" + "\n" * 200_000, "written in GBNF"),
    ],
    ids=["brackets", "lines", "quotes", "gbnf"],
)
def test_no_text_is_looked_through_more_than_once(text: str, refused: str):
    """With the square of its length this would take a quarter of an hour, and end with the time that a test has."""
    try:
        said = "" if text in grammar_text("lark", text) else "another grammar"
    except ConstraintError as error:
        said = error.message
    assert refused in said and bool(said) == bool(refused)
