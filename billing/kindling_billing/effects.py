"""What prices that are not published yet would have made of usage that was billed: pure, exact, nothing is written.

A price is a whole number of pico-dollars per unit and a line is quantity × price, so a sum over units is the sum over
events, to the unit. Only the price of a unit of batch work is rounded, once, as it is when it is billed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kindling_billing.book import PriceBook, Term, Version
from kindling_billing.rating import BATCH, Price

# Sorts behind every id, so that a draft holds over a published version of the same moment.
DRAFT = "~"


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner used of a sku in a span of time: quantities by unit, and what was charged for them."""

    owner_id: str
    sku: str
    quantities: Mapping[str, int]
    billed_picousd: int


@dataclass(frozen=True, slots=True)
class Effect:
    """What an owner's usage of a sku cost, and what it would have cost; equal where the drafts do not reach."""

    owner_id: str
    sku: str
    before_picousd: int
    after_picousd: int

    @property
    def difference_picousd(self) -> int:
        return self.after_picousd - self.before_picousd


def draft(*, sku: str, valid_from: datetime, price: Price, plan_id: str = "") -> Version:
    """A price version that is not published."""
    return Version(DRAFT, plan_id, sku, valid_from, price)


def effects_of(
    usage: Iterable[Usage], *, drafts: Sequence[Version], versions: Iterable[Version], terms: Iterable[Term]
) -> list[Effect]:
    """Rate usage by the prices of the moment at which the last draft of its sku is in force.

    Of an owner whom another version then reaches, a plan's or a later one, the usage costs what it did.
    """
    book = PriceBook([*versions, *drafts], terms)
    moments: dict[str, datetime] = {}
    for version in drafts:
        moments[version.sku] = max(version.valid_from, moments.get(version.sku, version.valid_from))
    effects = []
    for used in usage:
        at = moments.get(used.sku)
        found = book.find(used.owner_id, used.sku, at) if at else None
        after = (
            rate_quantities(found.price, used.quantities)
            if found and found.id == DRAFT
            else used.billed_picousd
        )
        effects.append(Effect(used.owner_id, used.sku, used.billed_picousd, after))
    return effects


def rate_quantities(price: Price, quantities: Mapping[str, int]) -> int:
    """What so many of each unit cost; batch units are told by their name."""
    return sum(
        quantity * price.of(unit.removeprefix(BATCH), batch=unit.startswith(BATCH))
        for unit, quantity in quantities.items()
    )
