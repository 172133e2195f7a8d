"""Budgets as bars: what is spent of each, and the rates beside them."""

from dataclasses import dataclass
from typing import Any

from kindling_billing.budgets import Spent
from kindling_console.forms.limits import RATES

# Period, its heading, and what its bar is called.
PERIODS = (("day", "Today", "today"), ("month", "This month", "this month"), ("total", "In all", "in all"))


@dataclass(frozen=True, slots=True)
class Meter:
    """What is spent of one budget, in pico-dollars; a budget of None is none."""

    title: str
    words: str
    spent_picousd: int
    budget_picousd: int | None

    @property
    def percent(self) -> int:
        """The share that is spent, 100 at most."""
        if not self.budget_picousd:
            return 0
        return min(100, self.spent_picousd * 100 // self.budget_picousd)


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A member or a key in a list of limits; `id` is the row's in the page, `edit_url` "" for who may not change it."""

    id: str
    name: str
    note: str
    meters: list[Meter]
    rates: list[tuple[int, str]]
    edit_url: str
    is_saved: bool = False


def meters_of(limits: Any, spent: Spent) -> list[Meter]:
    """The bars of a set of limits: its day, its month, and all of it."""
    return [
        Meter(title, words, getattr(spent, f"{period}_picousd"), getattr(limits, f"budget_{period}_picousd"))
        for period, title, words in PERIODS
    ]


def rates_of(limits: Any) -> list[tuple[int, str]]:
    """The rates that are set, each with its name in a sentence."""
    named = [(getattr(limits, name), label) for name, label in RATES.items()]
    return [(value, label[0].lower() + label[1:]) for value, label in named if value is not None]
