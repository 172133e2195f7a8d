"""How money travels in JSON: as text, exact in pico-dollars and readable in dollars."""

from kindling_billing.money import pico_to_usd_text

USD_PLACES = 12


def usd(picousd: int) -> str:
    """Dollars without separators, as short as they can be exactly, with at least two decimals."""
    text = pico_to_usd_text(picousd, USD_PLACES).replace(",", "")
    whole, _, part = text.partition(".")
    return f"{whole}.{part.rstrip('0').ljust(2, '0')}"
