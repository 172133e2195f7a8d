"""Grammars for calls whose arguments stand between tags: each argument in its place, as a text or as JSON."""

import json
import re
from collections.abc import Iterator
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import size_check
from kindling_engine.constraints.schema import schema_prepare
from kindling_engine.server.tools.tagged import TagForm
from kindling_engine.server.tools.tagged_values import parameter_schemas, types_of

# What a tool's parameters may say of all arguments together.
_OF_ALL = {
    "type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema", "$id", "$comment",
    "title", "description", "default", "examples",
}  # fmt: skip
# Texts stand there as they are, up to their closing tag.
_OF_TEXTS = ("pattern", "format", "minLength", "maxLength")
# Of a name, what would end its tag.
_NO_KEY = set("<>\n")
_DEFINITIONS = ("$defs", "definitions")
_KEY = "/[A-Za-z0-9_.\\-]{1,64}/"


def tagged_unkept(parameters: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Keywords of a tool's parameters that such calls are not held to: of all arguments together, and of texts."""
    of_texts = {
        keyword
        for schema in parameter_schemas(parameters).values()
        if "string" in types_of(schema, parameters)
        for keyword in _text_keywords(schema)
    }
    of_all = set(parameters) - _OF_ALL
    if any(set(name) & _NO_KEY for name in (*parameter_schemas(parameters), *_required(parameters))):
        of_all.add("properties")
    return sorted(of_all), sorted(of_texts)


def _required(parameters: dict[str, Any]) -> list[str]:
    named = parameters.get("required")
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


def tagged_plain(schema: Any, root: dict[str, Any]) -> dict[str, Any]:
    """A parameter's schema without what texts are not held to."""
    whole = dict(parameter_schemas({**root, "properties": {"one": schema}})["one"])
    if "string" not in types_of(whole, root):
        return whole
    plain = {name: one for name, one in whole.items() if name not in _OF_TEXTS}
    for name in ("anyOf", "oneOf"):
        if isinstance(plain.get(name), list):
            plain[name] = [tagged_plain(branch, root) for branch in plain[name]]
    return plain


def tagged_call(
    form: TagForm, name: str, parameters: dict[str, Any], number: int, style: dict[str, Any]
) -> str:
    """The rules of one tool's call, between its marks; ``call_<number>`` is the first.

    Raises ConstraintError ``unsupported_schema`` for what is not kept in this form.
    """
    for keyword in [one for names in tagged_unkept(parameters) for one in names]:
        raise ConstraintError(
            "unsupported_schema", f"{keyword} is not kept in the form in which this model writes its calls."
        )
    rules = []
    schemas = parameter_schemas(parameters)
    required = _required(parameters)
    places = {**schemas, **{one: {} for one in required if one not in schemas}}
    parts = []
    for place, (key, schema) in enumerate(places.items()):
        rule = f"p_{number}_{place}"
        head = json.dumps(f"{form.key[0]}{key}{_behind_key(form)}", ensure_ascii=False)
        rules.append(f"{rule}: {head} {_value(form, schema, parameters, style)}")
        parts.append(rule if key in required else f"{rule}?")
    if not places and parameters.get("additionalProperties") is not False:
        head, behind = json.dumps(form.key[0]), json.dumps(_behind_key(form))
        rules += [f"p_{number}: {head} KEY_{number} {behind} text_end", f"KEY_{number}: {_KEY}"]
        parts = [f"p_{number}*"]
    opening = json.dumps(f"{form.name[0]}{name}{form.name[1].strip()}\n")
    body = " ".join([opening, *parts, *([json.dumps(form.end)] if form.end else [])])
    return "\n".join([f"call_{number}: {body}", *rules])


def text_rule(form: TagForm) -> str:
    """A text up to the end of its argument, wherever that comes first."""
    closing = "".join({"\n": "\\n", "/": "\\/"}.get(sign, re.escape(sign)) for sign in _closing(form))
    return f"text_end[lazy]: /(?s:.*){closing}/"


def _value(form: TagForm, schema: Any, root: dict[str, Any], style: dict[str, Any]) -> str:
    """One argument up to its end."""
    end, types = json.dumps(_closing(form)), types_of(schema, root)
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(choices, list) and choices and "string" in types:
        said = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in choices]
        return f"({' | '.join(json.dumps(one, ensure_ascii=False) for one in said)}) {end}"
    if not types or "string" in types:
        return "text_end"
    definitions = {name: root[name] for name in _DEFINITIONS if name in root}
    prepared = schema_prepare(json.dumps({**definitions, **schema}))
    size_check(prepared)
    return f"%json {json.dumps({**prepared, 'x-guidance': style}, ensure_ascii=False)} {end}"


def _closing(form: TagForm) -> str:
    pad = "\n" if form.padded else ""
    return f"{pad}{form.value[1]}\n"


def _behind_key(form: TagForm) -> str:
    return f"{form.key[1]}\n{form.value[0]}"


def _text_keywords(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from (one for one in _OF_TEXTS if one in schema)
        for name in ("anyOf", "oneOf"):
            for branch in schema.get(name) or ():
                yield from _text_keywords(branch)
