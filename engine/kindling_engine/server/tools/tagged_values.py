"""Arguments between tags: a text each, which is the value itself where the schema has texts, and JSON elsewhere."""

import json
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_TYPES: dict[type, tuple[str, ...]] = {
    str: ("string",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    list: ("array",),
    dict: ("object",),
    type(None): ("null",),
}
_SPELLINGS = {"True": "true", "False": "false", "None": "null"}
_MOST_STEPS = 64


def parameter_schemas(parameters: Schema) -> dict[str, Schema]:
    """Those of a tool's parameters that are named, with what they refer to put in their place."""
    properties = _resolved(parameters, parameters).get("properties")
    if not isinstance(properties, dict):
        return {}
    return {name: _resolved(one, parameters) for name, one in properties.items()}


def types_of(schema: Schema, root: Schema, steps: int = _MOST_STEPS) -> frozenset[str]:
    """The JSON types that a value may have; none where the schema does not tell."""
    if steps <= 0:
        return frozenset()
    schema = _resolved(schema, root)
    told = schema.get("type")
    if isinstance(told, str):
        return frozenset((told,))
    if isinstance(told, list):
        return frozenset(one for one in told if isinstance(one, str))
    if "const" in schema or isinstance(schema.get("enum"), list):
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return frozenset(_TYPES[type(value)][0] for value in values if type(value) in _TYPES)
    for name in ("anyOf", "oneOf"):
        branches = schema.get(name)
        if isinstance(branches, list) and branches:
            found = [types_of(one, root, steps // (1 + len(branches))) for one in branches]
            return frozenset().union(*found) if all(found) else frozenset()
    if isinstance(schema.get("properties"), dict):
        return frozenset(("object",))
    return frozenset(("array",)) if "items" in schema else frozenset()


def value_text(text: str, types: frozenset[str]) -> str:
    """The JSON of an argument that a model wrote as ``text``; what cannot be of the schema's types stays a text."""
    if types - {"string"}:
        try:
            value = json.loads(_SPELLINGS.get(text.strip(), text), parse_constant=_refuse)
        except (ValueError, RecursionError):
            value = text
        if not isinstance(value, str) and types & set(_TYPES[type(value)]):
            return json.dumps(value, ensure_ascii=False)
        if isinstance(value, float) and value.is_integer() and "integer" in types:
            return json.dumps(int(value))
        # A text in quotes, where the value need not be a text.
        if isinstance(value, str) and value != text and "string" in types:
            return json.dumps(value, ensure_ascii=False)
    return json.dumps(text, ensure_ascii=False)


def _resolved(schema: Any, root: Schema) -> Schema:
    """A schema, or the one within the tool's that it refers to."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, Mapping):
            return {}
        place = schema.get("$ref")
        if not isinstance(place, str) or not place.startswith("#"):
            return schema
        schema = root
        for step in filter(None, place[1:].split("/")):
            name = step.replace("~1", "/").replace("~0", "~")
            schema = schema.get(name) if isinstance(schema, Mapping) else None
    return {}


def _refuse(name: str) -> Any:
    raise ValueError(name)
