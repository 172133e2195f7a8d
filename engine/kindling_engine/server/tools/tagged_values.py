"""Arguments between tags: a text each, which is the value itself where the schema has texts, and JSON elsewhere."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

# What says nothing of a value.
NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment", "$id",
         "$schema", "$defs", "definitions"}  # fmt: skip
# Texts stand there as they are, up to their closing tag: they are held to none of these.
OF_TEXTS = frozenset(("pattern", "format", "minLength", "maxLength"))
_TYPES: dict[type, tuple[str, ...]] = {
    str: ("string",),
    bool: ("boolean",),
    int: ("integer", "number"),
    float: ("number",),
    list: ("array",),
    dict: ("object",),
    type(None): ("null",),
}
_IMPLIED = {
    "properties": "object",
    "required": "object",
    "items": "array",
    "minimum": "number",
    "maximum": "number",
}
_SPELLINGS = {"True": "true", "False": "false", "None": "null"}
_MOST_STEPS = 64


@dataclass(frozen=True, slots=True)
class Argument:
    """How the values of a parameter are written: texts as they are, any or some; what else there is as JSON.

    ``types`` are those of the JSON values, ``schemas`` what these are held to. ``unkept`` names the keywords that
    values so written are not held to. A parameter of nothing has no value.
    """

    free: bool = False
    texts: tuple[str, ...] = ()
    types: frozenset[str] = frozenset()
    schemas: tuple[Schema, ...] = ()
    unkept: frozenset[str] = frozenset()

    @property
    def is_never(self) -> bool:
        return not (self.free or self.texts or self.schemas)


FREE = Argument(free=True)


def arguments_of(parameters: Schema) -> dict[str, Argument]:
    """Those of a tool's parameters that are named."""
    properties, _ = _merged(parameters, parameters)
    named = properties.get("properties")
    if not isinstance(named, Mapping):
        return {}
    return {name: argument_of(one, parameters) for name, one in named.items()}


def argument_of(schema: Any, root: Schema, steps: int = _MOST_STEPS) -> Argument:
    """A parameter of a tool whose parameters are ``root``."""
    if schema is False:
        return Argument()
    merged, unkept = _merged(schema, root)
    if steps <= 0:
        return Argument(free=True, unkept=frozenset(("$ref",)))
    found = _argument(merged, root, steps)
    return Argument(found.free, found.texts, found.types, found.schemas, found.unkept | unkept)


def value_text(text: str, argument: Argument) -> str:
    """The JSON of an argument that a model wrote as ``text``; what cannot be of the schema's types stays a text."""
    if argument.types and text not in argument.texts:
        said = _SPELLINGS.get(text.strip(), text.strip())
        try:
            value = json.loads(said, parse_constant=_refuse)
        except (ValueError, RecursionError):
            value = text
        if not isinstance(value, str) and argument.types & set(_TYPES[type(value)]):
            return said
        if isinstance(value, float) and value.is_integer() and "integer" in argument.types:
            return json.dumps(int(value))
    return json.dumps(text, ensure_ascii=False)


def _argument(schema: Schema, root: Schema, steps: int) -> Argument:
    kind = schema.get("type")
    if "const" in schema or isinstance(schema.get("enum"), list):
        return _chosen([schema["const"]] if "const" in schema else schema["enum"], schema)
    for name in ("anyOf", "oneOf"):
        branches = schema.get(name)
        if isinstance(branches, list) and branches:
            rest = {key: one for key, one in schema.items() if key != name and key not in NOTES}
            each = ({"allOf": [rest, one]} if rest else one for one in branches)
            return _union(each, schema, root, steps // (1 + len(branches)))
    if isinstance(kind, list):
        return _union(({**schema, "type": one} for one in kind), schema, root, steps // (1 + len(kind)))
    if kind == "string":
        return Argument(free=True, unkept=OF_TEXTS & set(schema))
    kind = kind if isinstance(kind, str) else next((_IMPLIED[one] for one in _IMPLIED if one in schema), None)
    if kind is None:
        return Argument(free=True, unkept=frozenset(set(schema) - NOTES))
    types = frozenset(("number", "integer") if kind == "number" else (kind,))
    return Argument(types=types, schemas=({**schema, "type": kind},))


def _chosen(values: list[Any], schema: Schema) -> Argument:
    """Some values and no others; where the schema has types as well, those of them alone."""
    kind = schema.get("type")
    allowed = {kind} if isinstance(kind, str) else set(kind) if isinstance(kind, list) else None
    fits = [one for one in values if allowed is None or allowed & set(_TYPES.get(type(one), ()))]
    others = [one for one in fits if not isinstance(one, str)]
    return Argument(
        texts=tuple(one for one in fits if isinstance(one, str)),
        types=frozenset(name for one in others for name in _TYPES.get(type(one), ())),
        schemas=({"enum": others},) if others else (),
    )


def _union(branches: Iterable[Any], schema: Schema, root: Schema, steps: int) -> Argument:
    found = [argument_of(one, root, steps) for one in branches]
    free = any(one.free for one in found)
    texts = tuple(text for one in found for text in one.texts)
    schemas = tuple(inner for one in found for inner in one.schemas)
    unkept = frozenset().union(*(one.unkept for one in found))
    if not free and not texts and schemas:
        # Without texts all of it is JSON, as it stands.
        schemas = (schema,)
    if free and any(set(inner) - NOTES - {"type"} for inner in schemas):
        # Whatever is not of these is a text, and so allowed: they bind nothing.
        unkept |= {"anyOf"}
    return Argument(free, texts, frozenset().union(*(one.types for one in found)), schemas, unkept)


def _merged(schema: Any, root: Schema) -> tuple[Schema, frozenset[str]]:
    """A schema with what it refers to, and all that it is to be at once, in one; and keywords that came to grief."""
    parts, unkept, waiting = dict[str, Any](), set[str](), [schema]
    for _ in range(_MOST_STEPS):
        if not waiting:
            return parts, frozenset(unkept)
        one = waiting.pop(0)
        if not isinstance(one, Mapping):
            unkept |= set() if one is True or one is None else {"allOf"}
            continue
        own = {key: value for key, value in one.items() if key not in {"$ref", "allOf"}}
        unkept |= {key for key in own if key in parts and key not in NOTES and parts[key] != own[key]}
        parts = {**own, **parts}
        if isinstance(one.get("$ref"), str):
            waiting.append(_pointed(one["$ref"], root))
        if isinstance(one.get("allOf"), list):
            waiting += one["allOf"]
    return parts, frozenset(unkept | {"$ref"})


def _pointed(place: str, root: Schema) -> Any:
    """The schema within the tool's that is referred to; None for one that is elsewhere."""
    found: Any = root if place.startswith("#") else None
    for step in filter(None, place[1:].split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _refuse(name: str) -> Any:
    raise ValueError(name)
