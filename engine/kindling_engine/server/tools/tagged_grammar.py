"""Grammars for calls whose arguments stand between tags: each argument in its place, as a text or as JSON."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.grammar_text import MAX_TEXT_BYTES, size_check
from kindling_engine.constraints.schema import schema_prepare
from kindling_engine.server.tools.tagged import TagForm
from kindling_engine.server.tools.tagged_values import (
    FREE,
    NOTES,
    Argument,
    Schema,
    argument_of,
    arguments_of,
)

# What a tool's parameters may say of all arguments together.
_OF_ALL = NOTES | {"type", "properties", "required", "additionalProperties"}
# Of a name, what would end its tag.
_NO_KEY = re.compile(r"[<>\n]")
_KEY = "/[A-Za-z0-9_.\\-]{1,64}/"
_DEFINED = re.compile(r"#/(\$defs|definitions)/([^/]+)")


def tagged_unkept(parameters: Schema, form: TagForm) -> frozenset[str]:
    """Keywords of a tool's parameters that its calls are not held to in this form."""
    found, required = arguments_of(parameters), required_of(parameters)
    unkept = {key for key in parameters if key not in _OF_ALL}
    for argument in found.values():
        unkept |= argument.unkept
        if any(form.value[1] in text for text in argument.texts):
            unkept.add("enum")
        if not all(_is_closed(schema, parameters) for schema in argument.schemas):
            unkept.add("$ref")
    if any(_NO_KEY.search(name) for name in (*found, *required)):
        unkept.add("properties")
    closed = parameters.get("additionalProperties") is False
    if any(found[name].is_never if name in found else closed for name in required):
        unkept.add("required")
    return frozenset(unkept)


def required_of(parameters: Schema) -> list[str]:
    named = parameters.get("required")
    return [one for one in named if isinstance(one, str)] if isinstance(named, list) else []


class TaggedRules:
    """Writes the rules of some tools' calls; equal schemas share a rule. What grows too large is refused at once."""

    def __init__(self, form: TagForm, style: Mapping[str, Any]) -> None:
        self._form = form
        self._style = style
        self._shared: dict[str, str] = {}
        self._size = 0
        closing = "".join({"\n": "\\n", "/": "\\/"}.get(sign, re.escape(sign)) for sign in self._closing)
        # A text up to the end of its argument, wherever that comes first.
        self.text = f"text_end[lazy]: /(?s:.*){closing}/"

    def call(self, name: str, parameters: Schema, number: int, *, lenient: bool) -> str:
        """One tool's call between its marks; ``call_<number>`` is the first of its rules.

        Raises ConstraintError ``unsupported_schema`` for what is not kept in this form, unless ``lenient``.
        """
        if not lenient and (unkept := tagged_unkept(parameters, self._form)):
            raise _unsupported(min(unkept))
        required = required_of(parameters)
        named = arguments_of(parameters)
        found = {**named, **{one: FREE for one in required if one not in named}}
        found = {key: one for key, one in found.items() if not _NO_KEY.search(key) and not one.is_never}
        rules, parts = [], []
        for place, (key, argument) in enumerate(found.items()):
            rule = f"p_{number}_{place}"
            rules.append(
                f"{rule}: {_literal(self._head(key))} {self._value(argument, parameters, lenient=lenient)}"
            )
            parts.append(rule if key in required else f"{rule}?")
        more = parameters.get("additionalProperties", True)
        if not found and more is not False:
            value = self._value(argument_of(more, parameters), parameters, lenient=lenient)
            rules.append(
                f"p_{number}: {_literal(self._form.key[0])} KEY_{number} {_literal(self._behind_key)} {value}"
            )
            rules.append(f"KEY_{number}: {_KEY}")
            parts.append(f"p_{number}*")
        opening = _literal(f"{self._form.name[0]}{name}{self._form.name[1].strip()}\n")
        body = " ".join([opening, *parts, *([_literal(self._form.end)] if self._form.end else [])])
        text = "\n".join([f"call_{number}: {body}", *rules])
        self._grow(len(text))
        return text

    def shared(self) -> list[str]:
        """The rules that several arguments may use; to be asked for when all calls are written."""
        return [self.text, *(f"{rule}: {text}" for text, rule in self._shared.items())]

    def _value(self, argument: Argument, root: Schema, *, lenient: bool) -> str:
        """An argument up to its end."""
        if argument.free:
            return "text_end"
        end = _literal(self._closing)
        ways = [f"{_literal(one)} {end}" for one in argument.texts if self._form.value[1] not in one]
        try:
            ways += [f"{self._json(schema, root)} {end}" for schema in argument.schemas]
        except ConstraintError:
            if not lenient:
                raise
            return "text_end"
        return f"({' | '.join(ways)})" if ways else "text_end"

    def _json(self, schema: Schema, root: Schema) -> str:
        whole = json.dumps({**schema, **_definitions(schema, root)})
        self._grow(len(whole))
        prepared = schema_prepare(whole)
        size_check(prepared)
        text = f"%json {json.dumps({**prepared, 'x-guidance': self._style}, ensure_ascii=False)}"
        return self._shared.setdefault(text, f"json_{len(self._shared)}")

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_TEXT_BYTES:
            text = f"The grammar of the tools' calls is larger than {MAX_TEXT_BYTES // 1024} KiB."
            raise ConstraintError("invalid_schema", text)

    def _head(self, key: str) -> str:
        return f"{self._form.key[0]}{key}{self._behind_key}"

    @property
    def _behind_key(self) -> str:
        return f"{self._form.key[1]}\n{self._form.value[0]}"

    @property
    def _closing(self) -> str:
        pad = "\n" if self._form.padded else ""
        return f"{pad}{self._form.value[1]}\n"


def _definitions(schema: Schema, root: Schema) -> dict[str, Any]:
    """Those of the tool's definitions that a schema refers to, also by way of others.

    Raises ConstraintError ``unsupported_schema`` where it refers to anything else.
    """
    found: dict[str, dict[str, Any]] = {}
    waiting: list[Any] = [{key: one for key, one in schema.items() if key not in {"$defs", "definitions"}}]
    while waiting:
        for place in _references(waiting.pop()):
            match = _DEFINED.match(place)
            kept = root.get(match[1]) if match else None
            name = match[2].replace("~1", "/").replace("~0", "~") if match else ""
            if match is None or not isinstance(kept, Mapping) or name not in kept:
                raise _unsupported("$ref")
            if name not in found.setdefault(match[1], {}):
                found[match[1]][name] = kept[name]
                waiting.append(kept[name])
    return found


def _is_closed(schema: Schema, root: Schema) -> bool:
    """Whether a schema refers to nothing but definitions."""
    try:
        _definitions(schema, root)
    except ConstraintError:
        return False
    return True


def _references(node: Any) -> Iterator[str]:
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            if isinstance(one.get("$ref"), str):
                yield one["$ref"]
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _unsupported(keyword: str) -> ConstraintError:
    said = f"{keyword} is not kept in the form in which this model writes its calls."
    return ConstraintError("unsupported_schema", said)
