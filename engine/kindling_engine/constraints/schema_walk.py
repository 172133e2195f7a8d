"""The walk over a JSON schema that finds what would not be kept and rewrites what is kept in another form.

The grammar library enforces a large part of JSON Schema and skips what it does not know.
"""

from collections.abc import Callable, Iterator
from typing import Any

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.constraints.formats import BUILT_IN, format_pattern
from kindling_engine.constraints.formats import REFUSED as REFUSED_FORMATS
from kindling_engine.constraints.keywords import BESIDE, DEFINITIONS, HARMLESS, NAMING, REFUSED, TYPES
from kindling_engine.constraints.patterns import PatternError, pattern_translate
from kindling_engine.constraints.places import place_join, place_of
from kindling_engine.constraints.schema_logic import SchemaLogic

# The library makes a node per item, and a state per character.
MAX_ITEMS = 2000
MAX_LENGTH = 100_000
# Beyond it, the doubles that the library computes with are not exact.
MAX_NUMBER = 1 << 53

_ANYWHERE = "*"

Schema = dict[str, Any]


class KeywordError(ConstraintError):
    """A keyword of a schema that is not kept, and the object that holds it."""

    def __init__(self, message: str, holder: Schema, keyword: str) -> None:
        super().__init__("unsupported_schema", message)
        self.holder = holder
        self.keyword = keyword


class SchemaWalk:
    """One walk. Places are JSON pointers; ``faults`` hangs each fault on the place of its schema."""

    def __init__(self, schema: Schema | bool) -> None:
        self._root = schema
        self._targets = frozenset(_targets(schema))
        self._links: dict[str, list[str]] = {}
        self._negations: list[tuple[_Node, str, dict[str, Any]]] = []
        self.faults: dict[str, list[ConstraintError]] = {}
        self._handlers: dict[str, Callable[[_Node, str, Any], Any]] = {
            **dict.fromkeys(("additionalItems", "additionalProperties"), self._one),
            **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), self._list),
            **dict.fromkeys(("properties", "patternProperties"), self._map),
            **dict.fromkeys(("maxItems", "minItems", "maxProperties", "minProperties"), self._count),
            **dict.fromkeys(("maxLength", "minLength"), self._count),
            **dict.fromkeys(("maximum", "minimum", "multipleOf"), self._bound),
            **dict.fromkeys(("exclusiveMaximum", "exclusiveMinimum"), self._bound),
            **dict.fromkeys(("const", "enum"), self._values),
            **dict.fromkeys(("dependencies", "dependentRequired", "dependentSchemas"), self._dependencies),
            **dict.fromkeys(("not", "if"), self._negated),
            **dict.fromkeys(("then", "else"), self._nothing),
            "items": self._items,
            "$ref": self._reference,
            "format": self._format,
            "pattern": self._pattern,
            "type": self._type,
            "required": self._required,
        }

    def run(self) -> Schema | bool:
        """The schema, rewritten; ``faults`` are known afterwards."""
        prepared = self._schema(self._root, "#")
        logic = SchemaLogic(prepared)
        for node, keyword, branches in reversed(self._negations):
            options = _branches(logic.negation(branches["if"]), branches)
            if options is None:
                what = f'"{keyword}" over more than types, required properties and bounds'
                self._unsupported(node, node.at(keyword), what)
            else:
                node.require({"anyOf": options} if options else False)
        return prepared

    @property
    def negates(self) -> bool:
        """Whether leaving something out of a part may forbid what the whole allowed."""
        return bool(self._negations)

    def found(self) -> Iterator[ConstraintError]:
        """The faults that an instance can meet."""
        for place in self.reachable():
            yield from self.faults.get(place, ())

    def reachable(self) -> Iterator[str]:
        """Places of schemas that an instance can meet, which definitions that nobody refers to are not."""
        found: set[str] = set()
        waiting = ["#"]
        while waiting:
            place = waiting.pop()
            if place == _ANYWHERE:
                waiting.extend(self._links)
            elif place not in found:
                found.add(place)
                yield place
                waiting.extend(reversed(self._links.get(place, ())))

    def _schema(self, value: Any, place: str) -> Schema | bool:
        self._links.setdefault(place, [])
        if isinstance(value, bool):
            return value
        node = _Node(value if isinstance(value, dict) else {}, place, {})
        if not isinstance(value, dict):
            self._invalid(node, place, "A schema must be an object, true or false")
        for keyword, inner in node.given.items():
            self._keyword(node, keyword, inner)
        return node.prepared

    def _keyword(self, node: "_Node", keyword: str, value: Any) -> None:
        if keyword in REFUSED:
            if not _harmless(node.given, keyword, value):
                self._unsupported(node, node.at(keyword), f'The keyword "{keyword}"')
        elif keyword in DEFINITIONS and isinstance(value, dict):
            node.prepared[keyword] = {
                name: self._schema(inner, node.at(keyword, name)) for name, inner in value.items()
            }
        elif keyword in NAMING:
            node.prepared[keyword] = value
        else:
            handler = self._handlers.get(keyword)
            kept = (
                self._elsewhere(value, node.at(keyword)) if handler is None else handler(node, keyword, value)
            )
            if kept is not None:
                node.prepared[keyword] = kept

    # Handlers return the value to keep, or None for nothing.

    def _one(self, node: "_Node", keyword: str, value: Any) -> Any:
        return self._child(node, value, node.at(keyword))

    def _list(self, node: "_Node", keyword: str, value: Any) -> Any:
        place = node.at(keyword)
        if not isinstance(value, list) or not value:
            return self._invalid(node, place, f'"{keyword}" must be a list of schemas')
        # A format may have put something here.
        return node.prepared.get(keyword, []) + [
            self._child(node, one, f"{place}/{index}") for index, one in enumerate(value)
        ]

    def _items(self, node: "_Node", keyword: str, value: Any) -> Any:
        if isinstance(value, list) and value:
            return self._list(node, keyword, value)
        # An empty list of schemas, as older drafts have them, demands nothing.
        return self._one(node, keyword, True if value is None or value == [] else value)

    def _map(self, node: "_Node", keyword: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return self._invalid(node, node.at(keyword), f'"{keyword}" must be an object')
        return {
            name
            if keyword == "properties"
            else self._translated(node, name, node.at(keyword, name)): self._child(
                node, one, node.at(keyword, name)
            )
            for name, one in value.items()
        }

    def _reference(self, node: "_Node", keyword: str, value: Any) -> Any:
        links = self._links[node.place]
        if not isinstance(value, str):
            return self._invalid(node, node.at(keyword), '"$ref" must be a string')
        if not value.startswith("#"):
            return self._unsupported(node, node.at(keyword), 'A "$ref" that leaves the schema')
        # An anchor may be anywhere.
        links.append(place_of(value) if value == "#" or value.startswith("#/") else _ANYWHERE)
        return value

    def _format(self, node: "_Node", keyword: str, value: Any) -> Any:
        if not isinstance(value, str):
            return self._invalid(node, node.at(keyword), '"format" must be a string')
        if "string" not in node.types:
            return None
        if value in REFUSED_FORMATS:
            return self._unsupported(node, node.at(keyword), f'The format "{value}"')
        expression = format_pattern(value)
        if expression is not None:
            node.require({"pattern": expression})
        return value if value in BUILT_IN else None

    def _pattern(self, node: "_Node", keyword: str, value: Any) -> Any:
        if not isinstance(value, str):
            return self._invalid(node, node.at(keyword), '"pattern" must be a string')
        return self._translated(node, value, node.at(keyword))

    def _type(self, node: "_Node", keyword: str, value: Any) -> Any:
        names = value if isinstance(value, list) else [value]
        if names and all(isinstance(name, str) and name in TYPES for name in names):
            return value
        known = ", ".join(sorted(TYPES))
        return self._invalid(node, node.at(keyword), f'"type" must be one or more of {known}')

    def _required(self, node: "_Node", keyword: str, value: Any) -> Any:
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            return value
        return self._invalid(node, node.at(keyword), '"required" must be a list of property names')

    def _count(self, node: "_Node", keyword: str, value: Any) -> Any:
        number = int(value) if isinstance(value, float) and value.is_integer() else value
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            return self._invalid(node, node.at(keyword), f'"{keyword}" must be a whole number from 0')
        limit = MAX_LENGTH if keyword.endswith("Length") else MAX_ITEMS
        if number > limit:
            return self._unsupported(node, node.at(keyword), f'"{keyword}" above {limit}')
        if keyword == "minProperties" and number > len(node.required) + 1:
            # The grammar cannot tell whether an undeclared name came before; repeated, it would count twice.
            what = '"minProperties" that asks for more than one property beyond those in "required"'
            return self._unsupported(node, node.at(keyword), what)
        return number

    def _bound(self, node: "_Node", keyword: str, value: Any) -> Any:
        if isinstance(value, bool) and keyword.startswith("exclusive"):
            return value  # draft 4
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self._invalid(node, node.at(keyword), f'"{keyword}" must be a number')
        if keyword == "multipleOf" and not value > 0:
            return self._invalid(node, node.at(keyword), '"multipleOf" must be greater than 0')
        return self._values(node, keyword, value)

    def _values(self, node: "_Node", keyword: str, value: Any) -> Any:
        if keyword == "enum" and not (isinstance(value, list) and value):
            return self._invalid(node, node.at(keyword), '"enum" must be a list of values')
        if not _exact(value):
            return self._unsupported(node, node.at(keyword), f'A number beyond 2^53 in "{keyword}"')
        if value is None:  # a constant null
            node.prepared[keyword] = value
        return value

    def _dependencies(self, node: "_Node", keyword: str, value: Any) -> Any:
        if not isinstance(value, dict):
            return self._invalid(node, node.at(keyword), f'"{keyword}" must be an object')
        for name, needed in value.items():
            place = node.at(keyword, name)
            listed = isinstance(needed, list) and all(isinstance(one, str) for one in needed)
            then = {"required": needed} if listed else self._child(node, needed, place)
            node.require({"anyOf": [{"properties": {name: False}}, then]})
        return None

    def _negated(self, node: "_Node", keyword: str, value: Any) -> Any:
        """``not``, and ``if`` with what belongs to it; looked at when the whole document has been seen."""
        branches = {"if": self._child(node, value, node.at(keyword))}
        if keyword == "not":
            branches["then"] = False
        else:
            for name in ("then", "else"):
                if name in node.given:
                    branches[name] = self._child(node, node.given[name], node.at(name))
        self._negations.append((node, keyword, branches))
        return None

    def _nothing(self, node: "_Node", keyword: str, value: Any) -> Any:
        """Read with ``if``; alone it says nothing."""
        return None

    # Helpers.

    def _child(self, node: "_Node", value: Any, place: str) -> Any:
        self._links[node.place].append(place)
        return self._schema(value, place)

    def _translated(self, node: "_Node", pattern: str, place: str) -> str:
        try:
            return pattern_translate(pattern)
        except PatternError as error:
            self._unsupported(node, place, f"The expression ({error})")
            return pattern

    def _elsewhere(self, value: Any, place: str) -> Any:
        """What an unknown keyword holds, as far as references point into it."""
        if place in self._targets:
            return self._schema(value, place)
        if not any(target.startswith(f"{place}/") for target in self._targets):
            return None
        if isinstance(value, dict):
            return {name: self._elsewhere(inner, place_join(place, name)) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._elsewhere(inner, f"{place}/{index}") for index, inner in enumerate(value)]
        return None

    def _invalid(self, node: "_Node", place: str, message: str) -> None:
        self._fault(node, ConstraintError("invalid_schema", f"{message} (at {place})."))

    def _unsupported(self, node: "_Node", place: str, what: str) -> None:
        keyword = place[len(node.place) + 1 :].split("/", maxsplit=1)[0]
        self._fault(node, KeywordError(f"{what} is not supported (at {place}).", node.given, keyword))

    def _fault(self, node: "_Node", fault: ConstraintError) -> None:
        self.faults.setdefault(node.place, []).append(fault)


class _Node:
    """A schema of its own inside the document: what was given, and what is made of it."""

    def __init__(self, given: Schema, place: str, prepared: Schema) -> None:
        self.given = given
        self.place = place
        self.prepared = prepared

    def at(self, *names: str) -> str:
        return place_join(self.place, *names)

    def require(self, schema: Schema | bool) -> None:
        """Something that must hold besides all else."""
        self.prepared["allOf"] = [*self.prepared.get("allOf", ()), schema]

    @property
    def types(self) -> list[Any]:
        types = self.given.get("type", sorted(TYPES))
        return types if isinstance(types, list) else [types]

    @property
    def required(self) -> set[str]:
        required = self.given.get("required")
        return set(map(str, required)) if isinstance(required, list) else set()


def _branches(negation: list[Any] | None, branches: dict[str, Any]) -> list[Any] | None:
    """What ``if`` and its branches leave: the condition with ``then``, or its opposite with ``else``."""
    if negation is None:
        return None
    options: list[Any] = [{"allOf": [one, branches.get("else", True)]} for one in negation]
    then = branches.get("then", True)
    return options if then is False else [{"allOf": [branches["if"], then]}, *options]


def _harmless(given: Schema, keyword: str, value: Any) -> bool:
    if keyword in BESIDE and BESIDE[keyword] not in given:
        return True
    return any(type(value) is type(one) and value == one for one in HARMLESS.get(keyword, ()))


def _targets(node: Any) -> Iterator[str]:
    """All references inside the document, as places."""
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield place_of(reference)
    if isinstance(node, dict | list):
        for inner in node.values() if isinstance(node, dict) else node:
            yield from _targets(inner)


def _exact(value: Any) -> bool:
    if isinstance(value, list | dict):
        return all(_exact(one) for one in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, bool) or not isinstance(value, int | float) or abs(value) <= MAX_NUMBER
