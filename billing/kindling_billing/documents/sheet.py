"""What a document says, in the order in which it is read."""

from dataclasses import dataclass
from datetime import datetime

from kindling_billing.money import cents_to_pico, pico_to_usd_text


@dataclass(frozen=True, slots=True)
class Sheet:
    """One document: who sends it to whom, facts, a table whose last columns are numbers, sums, and notes."""

    title: str
    seller: str
    buyer: str
    facts: tuple[tuple[str, str], ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    sums: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def cents_text(cents: int) -> str:
    """Cents as dollars, such as -$1,234.50."""
    return ("-" if cents < 0 else "") + "$" + pico_to_usd_text(cents_to_pico(abs(cents)), 2)


def pico_text(pico: int) -> str:
    """Pico-dollars as dollars with all their digits but needless zeros, at least two."""
    whole, _, digits = pico_to_usd_text(abs(pico), 12).partition(".")
    return ("-" if pico < 0 else "") + f"${whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def day_text(moment: datetime | None) -> str:
    """A day as people and machines read it."""
    return f"{moment:%Y-%m-%d}" if moment else ""
