"""JSON pointers, as fragments of references."""

from typing import Any
from urllib.parse import unquote


def place_join(place: str, *names: str) -> str:
    """A pointer to something below ``place``."""
    return "/".join([place, *(name.replace("~", "~0").replace("/", "~1") for name in names)])


def place_of(reference: str) -> str:
    """The pointer that a local reference spells, which may be percent-encoded."""
    return unquote(reference)


def place_find(document: Any, reference: str) -> Any:
    """What a local reference points to; None when it points nowhere."""
    node = document
    for part in place_of(reference).split("/")[1:] if reference.startswith("#/") else ():
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, dict) and name in node:
            node = node[name]
        elif isinstance(node, list) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            return None
    return node if reference == "#" or reference.startswith("#/") else None
