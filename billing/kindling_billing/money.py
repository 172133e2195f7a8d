"""Money as integers: one US dollar is 10¹² pico-dollars."""

import re
from decimal import Decimal, InvalidOperation, Overflow

PICO_PER_USD = 10**12
PICO_PER_CENT = 10**10
PER_MILLION = 10**6
MOST_DIGITS = 30
SMALL_BALANCE_PICOUSD = 100 * PICO_PER_USD
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def round_half_even(amount: int, unit: int) -> int:
    """How many `unit`s an amount is, to the nearest whole one, ties to the even one: the only rounding of money."""
    whole, rest = divmod(amount, unit)
    return whole + (2 * rest > unit or (2 * rest == unit and whole % 2 == 1))


def cents_to_pico(cents: int) -> int:
    """Cents as pico-dollars, exact."""
    return cents * PICO_PER_CENT


def pico_to_cents(pico: int) -> int:
    """Pico-dollars as cents, half to even; what is rounded away belongs on the rounding account."""
    return round_half_even(pico, PICO_PER_CENT)


def usd_to_pico(usd: str | Decimal) -> int:
    """Dollars as text or Decimal, exact.

    Raises:
        ValueError: not a finite number, or finer than a pico-dollar.
    """
    if isinstance(usd, str) and not _NUMBER.fullmatch(usd.strip()):
        # Decimal takes underscores, and digits of every script.
        raise ValueError(f"{usd[:40]!r} is not an amount of dollars")
    try:
        pico = Decimal(usd) * PICO_PER_USD
    except (InvalidOperation, Overflow) as error:
        raise ValueError(f"{str(usd)[:40]!r} is not an amount of dollars") from error
    if pico.is_finite() and pico.adjusted() > MOST_DIGITS:
        raise ValueError(f"{str(usd)[:40]!r} is more money than there is")
    if not pico.is_finite() or pico != pico.to_integral_value():
        raise ValueError(f"{str(usd)[:40]!r} is not a whole number of pico-dollars")
    return int(pico)


def per_million_to_pico(usd: str) -> int:
    """Dollars per million units as people write them, as pico-dollars per unit, exact.

    Raises:
        ValueError: not an amount, below zero, or finer than six decimals; the text says which.
    """
    try:
        pico = usd_to_pico(usd.strip().removeprefix("$").replace(",", ""))
    except ValueError:
        raise ValueError("Give dollars per million tokens, such as 0.10.") from None
    if pico < 0 or pico % PER_MILLION:
        raise ValueError("At most six decimals, and not below zero.")
    return pico // PER_MILLION


def pico_to_per_million(picousd: int) -> str:
    """Pico-dollars per unit as plain dollars per million units, as `per_million_to_pico` reads them."""
    text = f"{Decimal(picousd) * PER_MILLION / PICO_PER_USD:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def pico_to_usd_text(pico: int, places: int | None = None) -> str:
    """Dollars as text without a sign for the currency.

    Rounded half to even; six decimals below $100 and two above, unless `places` says otherwise.
    """
    if places is None:
        places = 6 if abs(pico) < SMALL_BALANCE_PICOUSD else 2
    return f"{(Decimal(pico) / PICO_PER_USD).quantize(Decimal(1).scaleb(-places)):,f}"
