"""What an answer costs, told in its usage where a body asks for it with `include_cost`."""

from collections.abc import Mapping
from typing import Any

import orjson

from kindling_billing.rating import REASONING, Price, event_cost_picousd
from kindling_platform.gateway.ask import FLEX
from kindling_platform.gateway.events import usage_of
from kindling_platform.gateway.surface.body import object_read
from kindling_platform.gateway.surface.form import DATA

PICO_DIGITS = 12
FIELD = "include_cost"
TIER = "service_tier"


def own_fields_take(raw: bytes) -> dict[str, Any]:
    """A body without what is the gateway's own: `include_cost`, with which a stream has the chunk with its usage, and
    the tier that it serves by price and priority.
    """
    fields = object_read(raw)
    if fields.get(TIER) == FLEX:
        del fields[TIER]
    if fields.pop(FIELD, None) is True and fields.get("stream") is True:
        options = fields.get("stream_options") or {}
        if isinstance(options, dict):
            fields["stream_options"] = options | {"include_usage": True}
    return fields


class CostForm:
    """OpenAI's own shape with the cost in every usage block; all other bytes pass as they are."""

    def __init__(self, price: Price) -> None:
        self._price = price
        self._answer = b""

    def begin(self, request_id: str, headers: Mapping[bytes, bytes]) -> None:
        return

    def headers(self) -> list[tuple[bytes, bytes]]:
        return []

    def whole(self, body: bytes) -> None:
        self._answer = self._priced(body)

    def feed(self, events: bytes) -> bytes:
        if b'"usage"' not in events:
            return events
        return b"".join(
            DATA + self._priced(one[len(DATA) :]) + b"\n\n" if one.startswith(DATA + b"{") else one + b"\n\n"
            for one in events.split(b"\n\n")[:-1]
        )

    def end(self) -> bytes:
        return self._answer

    def refusal(self, status: int, body: bytes) -> bytes:
        return body

    def _priced(self, body: bytes) -> bytes:
        if b'"usage"' not in body:
            return body
        reply = orjson.loads(body)
        if not isinstance(reply.get("usage"), dict):
            return body
        reply["usage"] |= cost_fields(self._price, reply["usage"])
        return orjson.dumps(reply)


def cost_fields(price: Price, usage: dict[str, Any]) -> dict[str, Any]:
    """The cost in dollars and its lines; money as text, so that no digit is lost."""
    counts = usage_of(usage)
    total = event_cost_picousd(
        price,
        prompt_tokens=counts.prompt_tokens,
        cached_tokens=counts.cached_tokens,
        completion_tokens=counts.completion_tokens,
        reasoning_tokens=counts.reasoning_tokens,
    )
    lines = (
        ("input", counts.prompt_tokens - counts.cached_tokens, price.input),
        ("cached_input", counts.cached_tokens, price.cached_input),
        ("reasoning", counts.reasoning_tokens, price.of(REASONING)),
        ("output", counts.completion_tokens - counts.reasoning_tokens, price.output),
    )
    return {
        "cost_usd": usd_text(total),
        "cost_lines": [
            {
                "kind": kind,
                "tokens": tokens,
                "price_per_token_picousd": str(each),
                "cost_usd": usd_text(tokens * each),
            }
            for kind, tokens, each in lines
            if tokens
        ],
    }


def usd_text(picousd: int) -> str:
    """Pico-dollars as dollars, exactly."""
    whole, part = divmod(picousd, 10**PICO_DIGITS)
    return f"{whole}.{part:0{PICO_DIGITS}d}"
