"""Which price holds for whom and when: pure look-ups in the price book and in the plans that owners are on."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from kindling_billing.rating import Price

BOOK = ""


@dataclass(frozen=True, slots=True)
class Version:
    """One price version; of those that begin at the same moment the one with the highest id holds."""

    id: str
    plan_id: str
    sku: str
    valid_from: datetime
    price: Price


@dataclass(frozen=True, slots=True)
class Term:
    """From a moment on an owner is on a plan; `number` decides between terms of the same moment."""

    owner_id: str
    plan_id: str
    valid_from: datetime
    number: int


class PriceBook:
    """Versions and terms, ready to be asked a million times."""

    def __init__(self, versions: Iterable[Version], terms: Iterable[Term] = ()) -> None:
        self._versions: dict[tuple[str, str], tuple[list[datetime], list[Version]]] = {}
        self._terms: dict[str, tuple[list[datetime], list[str]]] = {}
        by_sku: dict[tuple[str, str], list[Version]] = defaultdict(list)
        for version in versions:
            by_sku[version.plan_id, version.sku].append(version)
        for key, rows in by_sku.items():
            rows.sort(key=lambda row: (row.valid_from, row.id))
            self._versions[key] = [row.valid_from for row in rows], rows
        by_owner: dict[str, list[Term]] = defaultdict(list)
        for term in terms:
            by_owner[term.owner_id].append(term)
        for owner, held in by_owner.items():
            held.sort(key=lambda term: (term.valid_from, term.number))
            self._terms[owner] = [term.valid_from for term in held], [term.plan_id for term in held]

    def plan_of(self, owner_id: str, at: datetime) -> str:
        """The plan that an owner is on at a moment, "" for none."""
        found = self._terms.get(owner_id)
        place = bisect_right(found[0], at) if found else 0
        return found[1][place - 1] if found and place else BOOK

    def find(self, owner_id: str, sku: str, at: datetime) -> Version | None:
        """The version in force for an owner: their plan's, else the book's; None where the prices have a gap."""
        plan = self.plan_of(owner_id, at)
        return (self._in_force(plan, sku, at) if plan else None) or self._in_force(BOOK, sku, at)

    def changes(self, owner_id: str, sku: str) -> list[datetime]:
        """The moments at which the answer for an owner and a sku may change, in order."""
        terms, plans = self._terms.get(owner_id, ([], []))
        versions = (self._versions.get((plan, sku)) for plan in {BOOK, *plans})
        return sorted({*terms, *(moment for found in versions if found for moment in found[0])})

    def _in_force(self, plan_id: str, sku: str, at: datetime) -> Version | None:
        found = self._versions.get((plan_id, sku))
        place = bisect_right(found[0], at) if found else 0
        return found[1][place - 1] if found and place else None
