"""What the answer's text must match: OpenAI's ``response_format`` and the guided fields of other servers."""

import asyncio
import json
import re
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import grammar_text
from kindling_engine.protocol.sampling import Constraint
from kindling_engine.server.errors import ApiError, invalid_value
from kindling_engine.server.fields import Fields, text_check

GUIDED = {"guided_json": "json_schema", "guided_regex": "regex", "guided_grammar": "lark"}
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def response_format_read(fields: Fields) -> Constraint | None:
    """The constraint that the body asks for; None for free text. At most one field may set one.

    Errors: `invalid_value`, `missing_field`, `unsupported_field`. Whether a schema or grammar can be kept is
    not looked at here: `constraint_check` does.
    """
    found = [(name, constraint) for name, constraint in _candidates(fields) if constraint is not None]
    if len(found) > 1:
        raise invalid_value(found[1][0], f"Give either {found[0][0]} or {found[1][0]}, not both.")
    return found[0][1] if found else None


async def constraint_check(constraint: Constraint | None, fields: Fields | None = None) -> None:
    """Refuse what cannot be kept in full; in a thread. ``fields`` tell which one asked.

    Errors: 400 `invalid_schema` or `unsupported_schema`, naming keyword and place.
    """
    if constraint is None or constraint.kind == "json_object":
        return
    try:
        # A short text can ask for much, too.
        await asyncio.to_thread(grammar_text, constraint.kind, constraint.text)
    except ConstraintError as error:
        asked = () if fields is None else fields.present(*GUIDED)
        param = asked[0] if asked else "response_format"
        raise ApiError(400, error.code, f"{param}: {error.message}", param=param) from None


def _candidates(fields: Fields) -> list[tuple[str, Constraint | None]]:
    formatted = fields.object("response_format")
    read = [("response_format", None if formatted is None else _formatted(formatted))]
    return [*read, *((name, _guided(fields, name, kind)) for name, kind in GUIDED.items())]


def _formatted(given: dict[str, Any]) -> Constraint | None:
    fields = Fields(given, "response_format.")
    kind = fields.need("type")
    constraint: Constraint | None
    if kind == "text":
        constraint = None
    elif kind == "json_object":
        # Some clients put the schema here.
        schema = fields.take("schema")
        constraint = Constraint("json_object") if schema is None else _schema(schema, fields.path("schema"))
    elif kind == "json_schema":
        constraint = _named_schema(fields.need("json_schema"))
    elif kind == "grammar":
        constraint = Constraint(
            "lark", text_check(fields.need("grammar"), fields.path("grammar"), empty_ok=False)
        )
    else:
        raise invalid_value(
            fields.path("type"),
            "response_format.type must be text, json_object, json_schema or grammar.",
        )
    fields.end()
    return constraint


def _named_schema(given: Any) -> Constraint:
    path = "response_format.json_schema"
    if not isinstance(given, dict):
        raise invalid_value(path, f"{path} must be an object.")
    inner = Fields(given, f"{path}.")
    name = inner.take("name")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise invalid_value(
            inner.path("name"), f"{path}.name must be up to 64 letters, digits, hyphens and underscores."
        )
    description = inner.take("description")
    if description is not None:
        text_check(description, inner.path("description"))
    inner.boolean("strict")  # a schema is always kept
    constraint = _schema(inner.need("schema"), inner.path("schema"))
    inner.end()
    return constraint


def _guided(fields: Fields, name: str, kind: str) -> Constraint | None:
    value = fields.take(name)
    if value is None:
        return None
    if kind == "json_schema":
        return _schema(value, name)
    return Constraint(kind, text_check(value, name, empty_ok=False))


def _schema(value: Any, path: str) -> Constraint:
    """A schema as an object, or as its JSON text."""
    if isinstance(value, str):
        return Constraint("json_schema", text_check(value, path, empty_ok=False))
    if not isinstance(value, dict | bool):
        raise invalid_value(path, f"{path} must be a JSON schema.")
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise invalid_value(path, f"{path} is nested too deeply or holds a number that JSON lacks.") from None
    return Constraint("json_schema", text_check(written, path))
