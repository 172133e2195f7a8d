"""Money as integers: one US dollar is 10¹² pico-dollars."""

from decimal import Decimal, InvalidOperation

PICO_PER_USD = 10**12
SMALL_BALANCE_PICOUSD = 100 * PICO_PER_USD


def usd_to_pico(usd: str | Decimal) -> int:
    """Dollars as text or Decimal, exact.

    Raises:
        ValueError: not a finite number, or finer than a pico-dollar.
    """
    try:
        pico = Decimal(usd) * PICO_PER_USD
    except InvalidOperation as error:
        raise ValueError(f"{str(usd)[:40]!r} is not an amount of dollars") from error
    if not pico.is_finite() or pico != pico.to_integral_value():
        raise ValueError(f"{str(usd)[:40]!r} is not a whole number of pico-dollars")
    return int(pico)


def pico_to_usd_text(pico: int, places: int | None = None) -> str:
    """Dollars as text without a sign for the currency.

    Rounded half to even; six decimals below $100 and two above, unless `places` says otherwise.
    """
    if places is None:
        places = 6 if abs(pico) < SMALL_BALANCE_PICOUSD else 2
    return f"{(Decimal(pico) / PICO_PER_USD).quantize(Decimal(1).scaleb(-places)):,f}"
