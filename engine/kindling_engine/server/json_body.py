"""JSON from strangers: what is ambiguous or does not end is refused instead of guessed."""

import json
from typing import Any, NoReturn

from kindling_engine.server.errors import ApiError


def json_object_parse(raw: bytes) -> dict[str, Any]:
    """The object in a request's body. Errors: `invalid_json` for anything that is not exactly one object."""
    try:
        # Decoding first keeps out UTF-16, which json.loads would detect, and lone surrogates as raw bytes.
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise _invalid("The body is not valid UTF-8.") from None
    except RecursionError:
        raise _invalid("The body is nested too deeply.") from None
    except ValueError as error:
        raise _invalid(f"The body is not valid JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise _invalid("The body must be a JSON object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the field {twice[:80]!r} occurs twice")
    return result


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _invalid(message: str) -> ApiError:
    return ApiError(400, "invalid_json", message)
