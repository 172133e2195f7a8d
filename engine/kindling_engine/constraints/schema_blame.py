"""Which keyword the grammar library means when it refuses a schema; its messages name no place."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

from kindling_engine.constraints.places import place_join, place_of
from kindling_engine.constraints.schema_oneof import nodes_list

Compiles = Callable[[dict[str, Any]], str]

_MAX_TRIES = 64
_BY_MESSAGE = {
    "oneOf constraints": (
        ("oneOf",),
        '"oneOf" is supported where its options exclude each other by type, by a required property or by a constant',
    ),
    "min/maxProperties": (
        ("minProperties", "maxProperties"),
        '"{keyword}" is supported beside properties only if all of them are required',
    ),
    "patternProperty": (
        ("patternProperties",),
        '"patternProperties" is supported if no name can match two of its expressions',
    ),
}


def schema_blame(schema: dict[str, Any], message: str, compiles: Compiles) -> str:
    """A sentence with keyword and place. ``compiles`` gives the library's message for a schema, or nothing."""
    if message.startswith("circular references"):
        target = message.rsplit("json-schema://", 1)[-1].strip().removeprefix("/")
        for place in _references(schema, target):
            return f'"$ref" that comes back to itself is not supported in "allOf" or beside keywords (at {place}).'
    for sign, (keywords, sentence) in _BY_MESSAGE.items():
        if sign in message:
            found = _guilty(schema, keywords, sign, compiles)
            if found is not None:
                place, keyword = found
                return f"{sentence.format(keyword=keyword)} (at {place_join(place, keyword)})."
    return f"The schema is not supported: {message}"


def _guilty(
    schema: dict[str, Any], keywords: tuple[str, ...], sign: str, compiles: Compiles
) -> tuple[str, str] | None:
    """The first place that fails when the keyword is taken out everywhere else."""
    places = [(place, keyword) for keyword in keywords for place, _ in nodes_list(schema, keyword)]
    for kept in places[:_MAX_TRIES]:
        trial = copy.deepcopy(schema)
        for keyword in keywords:
            for place, node in list(nodes_list(trial, keyword)):
                if (place, keyword) != kept:
                    del node[keyword]
        if sign in compiles(trial):
            return kept
    return places[0] if places else None


def _references(schema: Any, target: str) -> Iterator[str]:
    """Places of references to a target, those below it first: one of them closes the circle."""
    places = []
    waiting: list[tuple[str, Any]] = [("#", schema)]
    while waiting:
        place, node = waiting.pop(0)
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str) and place_of(node["$ref"]) == target:
                places.append(place_join(place, "$ref"))
            waiting.extend((place_join(place, name), inner) for name, inner in node.items())
        elif isinstance(node, list):
            waiting.extend((f"{place}/{index}", inner) for index, inner in enumerate(node))
    yield from sorted(places, key=lambda place: not place.startswith(f"{target}/"))
