"""JSON of a body whose route is translated: read strictly, written again for the engine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import orjson

from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.surface.naming import Naming

# Bodies above this are read in a thread.
INLINE_BODY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Translated:
    """A body for the engine, and the names of what was accepted and has no effect.

    `spare` are fields that go without where the model cannot do them, with the client's names for them; `naming` tells
    of the engine's errors.
    """

    fields: dict[str, Any]
    ignored: tuple[str, ...] = ()
    spare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    naming: Naming | None = None


def object_read(raw: bytes) -> dict[str, Any]:
    """The one object in a body. The engine never sees the body as it came, so what is ambiguous is refused here.

    Errors: 400 `invalid_json` for bytes that are no UTF-8, half surrogate pairs, numbers that JSON does not have,
    fields that occur twice and nesting without end.
    """
    try:
        # The fast parser refuses what the other one lets through, and does not see a field that occurs twice.
        orjson.loads(raw)
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise invalid_json("The request body is not valid UTF-8.") from None
    except RecursionError:
        raise invalid_json("The request body is nested too deeply.") from None
    except ValueError as error:
        raise invalid_json(f"The request body is not valid JSON: {str(error)[:200]}.") from None
    if not isinstance(value, dict):
        raise invalid_json("The request body has to be a JSON object.")
    return value


def body_write(fields: dict[str, Any]) -> bytes:
    """The bytes for the engine. Errors: 400 `invalid_json` for what cannot be written again."""
    try:
        return orjson.dumps(fields)
    except orjson.JSONEncodeError:
        message = (
            "The request body holds half a surrogate pair, a number beyond 64 bits or more than 250 levels."
        )
        raise invalid_json(message) from None


def invalid_json(message: str) -> GatewayError:
    return GatewayError(400, "invalid_json", message)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the field {twice[:80]!r} occurs twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
