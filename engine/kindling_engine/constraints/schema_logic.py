"""What can be proved of schemas by looking at them: that two exclude each other, and what a third leaves out.

Works on schemas as SchemaWalk leaves them. Answers are safe: not proved is not disjoint, not known is None.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Any

from kindling_engine.constraints.places import place_find

Schema = Mapping[str, Any] | bool

ALL_TYPES = frozenset(("array", "boolean", "null", "number", "object", "string"))
_MAX_DEPTH = 12
_MAX_OPTIONS = 64
MOST_STEPS = 10_000
"""Of all proofs for one document: schemas that refer to themselves branch at each of the levels."""
_NAMES = frozenset(("$anchor", "$defs", "$id", "$schema", "definitions", "id"))


class _SpentError(Exception):
    """A proof would take longer than a document may have."""


class SchemaLogic:
    """Proofs inside one document, whose local references it follows, for as long as its steps last."""

    def __init__(self, document: Schema) -> None:
        self._document = document
        self._steps = MOST_STEPS

    def disjoint(self, one: Schema, other: Schema, types: frozenset[str] = ALL_TYPES) -> bool:
        """Whether no value of the given types can match both."""
        try:
            return self._disjoint(one, other, types)
        except _SpentError:
            return False

    def negation(self, schema: Schema) -> list[Schema] | None:
        """Schemas of which a value matches at least one just when it does not match this one; None if unknown."""
        try:
            return self._negation(schema)
        except _SpentError:
            return None

    def target(self, reference: str) -> Schema | None:
        """What a local reference points to."""
        found = place_find(self._document, reference)
        return found if isinstance(found, Mapping | bool) else None

    def _disjoint(
        self, one: Schema, other: Schema, types: frozenset[str] = ALL_TYPES, depth: int = 0
    ) -> bool:
        self._spend()
        if depth > _MAX_DEPTH:
            return False
        first, second = self._parts(one), self._parts(other)
        if first is None or second is None:
            return True
        common = types.intersection(*map(_types, first), *map(_types, second))
        if not common or _values_differ(first, second):
            return True
        for parts, whole in ((first, other), (second, one)):
            for part in parts:
                for keyword in ("anyOf", "oneOf"):
                    options = part.get(keyword)
                    if options and all(
                        self._disjoint(option, whole, common, depth + 1) for option in options
                    ):
                        return True
        if common != {"object"}:
            return False
        return any(
            self._property_disjoint(name, first, second, depth)
            for name in _required(first) | _required(second)
        )

    def _negation(self, schema: Schema, depth: int = 0) -> list[Schema] | None:
        self._spend()
        if depth > _MAX_DEPTH:
            return None
        if isinstance(schema, bool):
            return [] if schema else [True]
        found: list[Schema] = []
        for keyword, value in schema.items():
            if keyword in _NAMES:
                continue
            part = self._keyword_negation(keyword, value, schema, depth)
            if part is None:
                return None
            found.extend(part)
        return found if len(found) <= _MAX_OPTIONS else None

    def _spend(self) -> None:
        if self._steps <= 0:
            raise _SpentError
        self._steps -= 1

    def _keyword_negation(
        self, keyword: str, value: Any, schema: Mapping[str, Any], depth: int
    ) -> list[Schema] | None:
        if keyword == "type":
            return _type_negation(value if isinstance(value, list) else [value])
        if keyword == "required":
            return [_object(properties={name: False}) for name in value]
        if keyword in _OPPOSITES and _numeric(value):
            kind, opposite, change = _OPPOSITES[keyword]
            low = isinstance(change, int) and value + change < 0
            return [] if low else [{"type": kind, opposite: value if change is None else value + change}]
        if keyword == "properties":
            negated = {name: self._negation(one, depth + 1) for name, one in value.items()}
            return (
                None
                if None in negated.values()
                else [
                    _object(required=[name], properties={name: one})
                    for name, ones in negated.items()
                    for one in ones or ()
                ]
            )
        if keyword == "allOf":
            parts = [self._negation(one, depth + 1) for one in value]
            return None if None in parts else [one for part in parts for one in part or ()]
        if keyword == "anyOf":
            parts = [self._negation(one, depth + 1) for one in value]
            if None in parts:
                return None
            combined = list(islice(product(*(part or () for part in parts)), _MAX_OPTIONS + 1))
            return [{"allOf": list(one)} for one in combined] if len(combined) <= _MAX_OPTIONS else None
        if keyword == "$ref":
            found = self.target(value)
            return None if found is None else self._negation(found, depth + 1)
        return None

    def _parts(self, schema: Schema, depth: int = 0) -> list[Mapping[str, Any]] | None:
        """A schema and what it includes by reference or allOf, all of which hold; None where nothing can match."""
        self._spend()
        if isinstance(schema, bool):
            return [{}] if schema else None
        found: list[Mapping[str, Any]] = [schema]
        inner = list(schema.get("allOf", ()))
        if isinstance(schema.get("$ref"), str):
            target = self.target(schema["$ref"])
            inner += [] if target is None else [target]
        for one in inner if depth < _MAX_DEPTH else ():
            parts = self._parts(one, depth + 1)
            if parts is None:
                return None
            found += parts
        return found

    def _property_disjoint(
        self, name: str, first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], depth: int
    ) -> bool:
        return any(
            self._disjoint(_property(a, name), _property(b, name), depth=depth + 1)
            for a in first
            for b in second
        )


# Keyword, its opposite, the type it speaks of, and how the figure moves; None leaves it.
_OPPOSITES: dict[str, tuple[str, str, int | None]] = {
    "minimum": ("number", "exclusiveMaximum", None),
    "maximum": ("number", "exclusiveMinimum", None),
    "exclusiveMinimum": ("number", "maximum", None),
    "exclusiveMaximum": ("number", "minimum", None),
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
}


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    given = schema.get("type")
    if given is None:
        return ALL_TYPES
    return frozenset(
        "number" if one == "integer" else one for one in (given if isinstance(given, list) else [given])
    )


def _type_negation(given: list[str]) -> list[Schema] | None:
    if "integer" in given and "number" not in given:
        return None
    others = ALL_TYPES.difference(given)
    return [{"type": sorted(others)}] if others else []


def _object(**keywords: Any) -> Schema:
    return {"type": "object", **keywords}


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _required(parts: Sequence[Mapping[str, Any]]) -> set[str]:
    return {name for part in parts for name in part.get("required", ())}


def _property(schema: Mapping[str, Any], name: str) -> Schema:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    if name in properties:
        return properties[name]
    closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    return not closed


def _values_differ(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> bool:
    sets = [[_values(part) for part in parts] for parts in (first, second)]
    return any(a is not None and b is not None and not a & b for a in sets[0] for b in sets[1])


def _values(schema: Mapping[str, Any]) -> set[str] | None:
    if "const" in schema:
        return {_canonical(schema["const"])}
    return {_canonical(value) for value in schema["enum"]} if "enum" in schema else None


def _canonical(value: Any) -> str:
    return json.dumps(float(value) if _numeric(value) else value, sort_keys=True)
