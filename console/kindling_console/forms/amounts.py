"""Amounts of dollars as people type them."""

import re

from kindling_billing.money import usd_to_pico

WRITTEN = re.compile(r"[+-]?(?:(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]*)?|\.[0-9]+)")


def dollars_typed(text: str) -> int:
    """An amount in pico-dollars; `$1,000` is one, `1e3` and `1,5` are not.

    Raises:
        ValueError: not an amount, or finer than a pico-dollar.
    """
    plain = text.strip().removeprefix("$").strip()
    if not WRITTEN.fullmatch(plain):
        raise ValueError(f"{text[:40]!r} is not an amount of dollars")
    return usd_to_pico(plain.replace(",", ""))
