"""``oneOf`` as ``anyOf``, where the options exclude each other or can be made to.

The grammar library proves exclusion for simple cases, without following references, and refuses the others.
"""

from collections.abc import Iterator
from typing import Any

from kindling_engine.constraints.places import place_join
from kindling_engine.constraints.schema_logic import ALL_TYPES, SchemaLogic

_VALUES = ("const", "enum")


def exclusive_rewrite(document: dict[str, Any]) -> None:
    """Replace, in place, every oneOf whose options can be told apart; others stay."""
    logic = SchemaLogic(document)
    # Inner ones first: what they become is easier to reason about.
    for _, node in reversed(list(nodes_list(document, "oneOf"))):
        if not isinstance(node["oneOf"], list):  # a property of that name
            continue
        options = _exclusive(node["oneOf"], node, logic)
        if options is not None:
            _replace(node, options)


def nodes_list(
    node: Any, keyword: str, place: str = "#", *, leaves: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema with a keyword, and its place; with ``leaves`` one whose value is a text."""
    if isinstance(node, dict):
        if keyword in node and isinstance(node[keyword], str if leaves else list | int | dict):
            yield place, node
        for name, inner in list(node.items()):
            if name not in _VALUES:
                yield from nodes_list(inner, keyword, place_join(place, name), leaves=leaves)
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from nodes_list(inner, keyword, f"{place}/{index}", leaves=leaves)


def _replace(node: dict[str, Any], options: list[Any]) -> None:
    """Put the options where oneOf was: the order of keywords sets the order of properties."""
    given = dict(node)
    node.clear()
    for keyword, value in given.items():
        if keyword == "oneOf" and "anyOf" not in given:
            node["anyOf"] = options
        elif keyword == "oneOf":
            node["allOf"] = [*node.get("allOf", ()), {"anyOf": options}]
        elif keyword == "allOf":
            node["allOf"] = [*node.get("allOf", ()), *value]
        else:
            node[keyword] = value


def _exclusive(options: list[Any], node: dict[str, Any], logic: SchemaLogic) -> list[Any] | None:
    given = node.get("type", sorted(ALL_TYPES))
    names = given if isinstance(given, list) else [given]
    types = frozenset("number" if name == "integer" else name for name in names)
    found = []
    for index, option in enumerate(options):
        parts = [option]
        for other_index, other in enumerate(options):
            if other_index == index or logic.disjoint(option, other, types):
                continue
            negation = logic.negation(other)
            if negation is None:
                return None
            parts.append({"anyOf": negation} if negation else False)
        found.append(option if len(parts) == 1 else {"allOf": parts})
    return found
