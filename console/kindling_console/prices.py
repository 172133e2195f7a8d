"""Current prices of several models with one query."""

from collections.abc import Iterable
from typing import Any

from kindling_billing.selectors import price_list
from kindling_platform.common.clock import now


def current_prices(skus: Iterable[str]) -> dict[str, Any]:
    """The price version in force by sku; a model without one is not in the answer."""
    wanted = list(skus)
    found: dict[str, Any] = {}
    for price in price_list().filter(sku__in=wanted, valid_from__lte=now()):
        found.setdefault(price.sku, price)
    return found
