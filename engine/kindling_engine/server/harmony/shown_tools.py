"""Tools as harmony templates can print them; what binds calls is the schema as it was given."""

import json
from collections.abc import Sequence
from typing import Any


def harmony_tools(tools: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tools with a description each, and with texts where published templates put a value into a text as it is.

    The tools are not nested too deeply.
    """
    return [{**one, "function": _function(one["function"])} for one in tools]


def _function(function: dict[str, Any]) -> dict[str, Any]:
    return {"description": "", **function, "parameters": _schema(function["parameters"])}


def _schema(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    shown = dict(schema)
    if schema.get("description") is not None:
        shown["description"] = _text(schema["description"])
    if "default" in schema and (schema.get("enum") or schema.get("oneOf")):
        shown["default"] = _text(schema["default"])
    if "items" in schema:
        shown["items"] = _schema(schema["items"])
    if isinstance(properties := schema.get("properties"), dict):
        shown["properties"] = {name: _schema(one) for name, one in properties.items()}
    if isinstance(variants := schema.get("oneOf"), list):
        shown["oneOf"] = [_schema(one) for one in variants]
    return shown


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
