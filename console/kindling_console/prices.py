"""Current prices of several models with one query."""

from collections.abc import Iterable
from typing import Any

from kindling_billing.selectors import price_map_current
from kindling_console.access import Visitor


def current_prices(skus: Iterable[str], visitor: Visitor) -> dict[str, Any]:
    """What a visitor's organisation pays now, by sku; a model without a price is not in the answer."""
    return dict(price_map_current(skus=skus, owner_id=visitor.org.id))
