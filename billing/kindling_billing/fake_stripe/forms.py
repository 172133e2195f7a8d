"""Stripe's bodies: forms whose names nest, `a[b][0]=c`, into dictionaries and lists."""

import re
from collections.abc import Iterable
from typing import Any

PART = re.compile(r"\[([^\]]*)\]")


def nested(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Pairs of a form as nested values; `[]` and numbers make lists."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        head, *rest = [name.split("[", 1)[0], *PART.findall(name)]
        place: dict[str, Any] = found
        for following in rest:
            inner = place.get(head)
            if not isinstance(inner, dict):
                inner = place[head] = {}
            place, head = inner, following or str(len(inner))
        place[head] = value
    return {name: _listed(value) for name, value in found.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(item) for name, item in value.items()}
    if inner and all(name.isdigit() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner
