"""The sample of JSONSchemaBench: real schemas with instances that match and instances that do not."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).parents[1] / "data" / "jsonschema-bench-sample.jsonl.gz"
# How a text may be laid out: as json.dumps does by default, without white space, and indented in two ways.
LAYOUTS: tuple[dict[str, Any], ...] = ({}, {"separators": (",", ":")}, {"indent": 2}, {"indent": "\t"})
_INCLUDED = ("allOf", "anyOf", "oneOf", "then", "else")


@dataclass(frozen=True)
class Case:
    """One schema; ``texts`` are its instances in the order of its properties, each with whether it matches."""

    name: str
    schema: Any
    instances: tuple[tuple[Any, bool], ...]

    @property
    def text(self) -> str:
        return json.dumps(self.schema, ensure_ascii=False)

    def texts(self, **layout: Any) -> Iterator[tuple[str, bool]]:
        for value, valid in self.instances:
            yield json.dumps(value, ensure_ascii=False, **layout), valid


def cases_load() -> list[Case]:
    with gzip.open(SAMPLE, "rt", encoding="utf-8") as lines:
        return [_case(json.loads(line)) for line in lines]


def _case(raw: dict[str, Any]) -> Case:
    schema = raw["schema"]
    instances = []
    for test in raw["tests"]:
        value = ordered(test["data"], schema, schema)
        if _is_text(value):
            instances.append((value, test["valid"]))
    return Case(raw["name"], schema, tuple(instances))


def ordered(value: Any, schema: Any, root: Any, depth: int = 0) -> Any:
    """The same value with its names in the order in which a grammar of the schema has them."""
    if depth > 40:
        return value
    if isinstance(value, dict):
        known: dict[str, Any] = {}
        for keyword in ("properties", "required"):
            _names(schema, root, keyword, known)
        names = [*(name for name in known if name in value), *(name for name in value if name not in known)]
        extra = schema.get("additionalProperties") if isinstance(schema, dict) else None
        return {name: ordered(value[name], known.get(name, extra), root, depth + 1) for name in names}
    if isinstance(value, list):
        items = _keyword(schema, root, "items")
        if isinstance(items, list):
            items = items[0] if items else None
        return [ordered(one, items, root, depth + 1) for one in value]
    return value


def _names(schema: Any, root: Any, wanted: str, found: dict[str, Any], depth: int = 0) -> None:
    """Names under a keyword, and under those of the schemas that this one includes."""
    if not isinstance(schema, dict) or depth > 12:
        return
    for keyword, inner in schema.items():
        if keyword == wanted and isinstance(inner, dict | list):
            for name in inner:
                if not found.get(name):
                    found[name] = inner[name] if isinstance(inner, dict) else None
        elif keyword == "$ref":
            _names(_target(inner, root), root, wanted, found, depth + 1)
        elif keyword in _INCLUDED:
            for one in inner if isinstance(inner, list) else [inner]:
                _names(one, root, wanted, found, depth + 1)


def _keyword(schema: Any, root: Any, keyword: str, depth: int = 0) -> Any:
    if not isinstance(schema, dict) or depth > 12:
        return None
    if keyword in schema:
        return schema[keyword]
    inner = [
        _target(schema.get("$ref"), root),
        *(one for name in _INCLUDED[:3] for one in schema.get(name, ())),
    ]
    return next(
        (found for one in inner if (found := _keyword(one, root, keyword, depth + 1)) is not None), None
    )


def _target(reference: Any, root: Any) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return root if reference == "#" else None
    node = root
    for part in reference.split("/")[1:]:
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _is_text(value: Any) -> bool:
    """Whether the value can be written as UTF-8; half a surrogate pair cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
