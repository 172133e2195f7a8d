"""How deep a request's JSON may be nested where it is walked through level by level."""

from typing import Any

MAX_DEPTH = 128


def nested_too_deeply(*values: Any) -> bool:
    """Whether any of the values, which are JSON, holds lists and objects more than MAX_DEPTH deep."""
    level = list(values)
    for _ in range(MAX_DEPTH + 1):
        level = [inner for one in level for inner in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
