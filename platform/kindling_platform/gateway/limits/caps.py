"""What a request bounds for itself: `max_cost` in dollars and `deadline_ms`, in its body or as headers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from kindling_billing.money import PICO_PER_USD, usd_to_pico
from kindling_platform.gateway.errors import GatewayError

MAX_COST, DEADLINE = "max_cost", "deadline_ms"
HEADERS = {MAX_COST: b"x-kindling-max-cost", DEADLINE: b"x-kindling-deadline-ms"}
MARKS = tuple(b'"%b"' % name.encode() for name in HEADERS)
MOST_COST_PICOUSD = 1_000_000 * PICO_PER_USD
MOST_MS = 86_400_000
MOST_DIGITS = 40


@dataclass(frozen=True, slots=True)
class Caps:
    """The bounds; None where there is none."""

    max_cost_picousd: int | None = None
    deadline_ms: int | None = None


NO_CAPS = Caps()


def caps_take(headers: Mapping[bytes, bytes], body: bytes) -> tuple[Caps, bytes]:
    """The caps of a request, and its body without them; the engine knows neither. Headers go before fields.

    Raises:
        GatewayError: 400 for what is no amount or no number of milliseconds.
    """
    given: dict[str, Any] = {}
    for mark in MARKS:
        if mark in body:
            given, body = _taken(body)
            break
    for name, header in HEADERS.items():
        if header in headers:
            given[name] = headers[header].decode("latin-1").strip()
    if not given:
        return NO_CAPS, body
    return Caps(_cost(given.get(MAX_COST)), _milliseconds(given.get(DEADLINE))), body


def _taken(body: bytes) -> tuple[dict[str, Any], bytes]:
    fields = orjson.loads(body)  # it was read before, so it is an object
    taken = {name: fields.pop(name) for name in HEADERS if name in fields}
    return (taken, orjson.dumps(fields)) if taken else ({}, body)


def _cost(value: Any) -> int | None:
    if value is None:
        return None
    message = 'max_cost has to be an amount of dollars above 0 as a string, such as "0.02".'
    if not isinstance(value, str) or len(value) > MOST_DIGITS:
        raise GatewayError(400, "invalid_value", message, param=MAX_COST)
    try:
        picousd = usd_to_pico(value)
    except ValueError as error:
        raise GatewayError(400, "invalid_value", message, param=MAX_COST) from error
    if not 0 < picousd <= MOST_COST_PICOUSD:
        raise GatewayError(400, "invalid_value", message, param=MAX_COST)
    return picousd


def _milliseconds(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < MOST_DIGITS:
        value = int(value)
    if type(value) is not int or not 1 <= value <= MOST_MS:
        message = f"deadline_ms has to be a whole number of milliseconds from 1 to {MOST_MS}."
        raise GatewayError(400, "invalid_value", message, param=DEADLINE)
    return value
