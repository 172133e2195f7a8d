"""How money travels in JSON: as text, exact in pico-dollars and readable in dollars."""

from kindling_billing.money import PICO_PER_USD, per_million_to_pico, usd_to_pico
from kindling_platform.common.errors import KindlingError

USD_PLACES = 12
MOST_DIGITS = 40


def usd(picousd: int) -> str:
    """Dollars without separators, as short as they can be exactly, with at least two decimals."""
    whole, part = divmod(abs(picousd), PICO_PER_USD)
    return f"{'-' if picousd < 0 else ''}{whole}.{f'{part:0{USD_PLACES}}'.rstrip('0').ljust(2, '0')}"


def money(name: str, picousd: int) -> dict[str, str]:
    """An amount in both forms, as `<name>_picousd` and `<name>_usd`."""
    return {f"{name}_picousd": str(picousd), f"{name}_usd": usd(picousd)}


def usd_asked(text: str, *, param: str) -> int:
    """Dollars that a client sent, in pico-dollars.

    Raises:
        KindlingError: `amount_invalid`.
    """
    try:
        return usd_to_pico(text)
    except ValueError as error:
        raise KindlingError(
            "amount_invalid", "Give an amount of dollars, such as 25 or 0.50.", param=param
        ) from error


def per_million_asked(text: str, *, param: str) -> int:
    """Dollars per million units that a client sent, in pico-dollars per unit.

    Raises:
        KindlingError: `amount_invalid`.
    """
    try:
        picousd = per_million_to_pico(text)
    except ValueError as error:
        raise KindlingError("amount_invalid", str(error), param=param) from error
    if picousd > PICO_PER_USD:
        raise KindlingError("amount_invalid", "A price per token is at most one dollar.", param=param)
    return picousd
