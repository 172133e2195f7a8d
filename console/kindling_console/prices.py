"""Current prices of several models with one query."""

from collections.abc import Iterable
from typing import Any

from kindling_billing.gpu_hours import hour_price_plain
from kindling_billing.money import pico_to_usd_text
from kindling_billing.selectors import price_map_current, price_of
from kindling_console.access import Visitor


def current_prices(skus: Iterable[str], visitor: Visitor) -> dict[str, Any]:
    """What a visitor's organisation pays now, by sku; a model without a price is not in the answer."""
    return dict(price_map_current(skus=skus, owner_id=visitor.org.id))


def current_hour_prices(skus: Iterable[str], visitor: Visitor) -> dict[str, int]:
    """What a visitor's organisation pays for a millisecond of a replica of its own, where that has a price."""
    found = current_prices(skus, visitor)
    return {sku: price_of(version).gpu_ms for sku, version in found.items() if price_of(version).gpu_ms}


def hour_text(picousd_per_ms: int, *, replicas: int = 1) -> str:
    """What an hour of so many replicas costs in dollars, in plain text, as the price was typed."""
    if not picousd_per_ms:
        return "no price yet"
    whole, _, part = pico_to_usd_text(replicas * hour_price_plain(picousd_per_ms), 12).partition(".")
    return f"${whole}.{part.rstrip('0').ljust(2, '0')}"
