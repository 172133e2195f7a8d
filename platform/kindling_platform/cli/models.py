"""`kindling models`."""

from decimal import Decimal
from typing import Any

from kindling_platform.cli.client import Client
from kindling_platform.cli.output import AsJson, print_rows, rows_of

COLUMNS = ("id", "kind", "context_length", "price_of_1M_input", "price_of_1M_output")


def list_models(as_json: AsJson = False) -> None:
    """The models and adapters that you can call.

    `models import <hub id or folder>` brings a model onto this machine and into its catalog.
    """
    rows = rows_of(Client().get("/v1/models"))
    shown = rows if as_json else [_with_prices(row) for row in rows]
    print_rows(shown, COLUMNS, as_json=as_json, empty="No model can be called yet.")


def _with_prices(row: dict[str, Any]) -> dict[str, Any]:
    prices = row.get("price_per_token_picousd") or {}
    said = {f"price_of_1M_{kind}": _price(int(price)) for kind, price in prices.items() if price is not None}
    return row | said


def _price(picousd: int) -> str:
    """What a million tokens cost at so many pico-dollars each, exactly."""
    usd = Decimal(picousd).scaleb(-6)
    return f"${usd:,.2f}" if usd == round(usd, 2) else f"${usd.normalize():,f}"
