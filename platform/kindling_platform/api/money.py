"""How money travels in JSON: as text, exact in pico-dollars and readable in dollars."""

from kindling_billing.money import PICO_PER_USD

USD_PLACES = 12


def usd(picousd: int) -> str:
    """Dollars without separators, as short as they can be exactly, with at least two decimals."""
    whole, part = divmod(abs(picousd), PICO_PER_USD)
    return f"{'-' if picousd < 0 else ''}{whole}.{f'{part:0{USD_PLACES}}'.rstrip('0').ljust(2, '0')}"
