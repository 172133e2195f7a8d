"""Rates, invoices and rates anew; what must be equal is computed by two ways that share nothing but the events."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from kindling_billing.bench.events import month_book, month_events
from kindling_billing.book import PriceBook, Version
from kindling_billing.figures import covered_of, figures_of
from kindling_billing.money import PICO_PER_USD, cents_to_pico
from kindling_billing.rating import Line, Used, usage_rate

TotalKey = tuple[str, str, str, int]
CREDIT_PICOUSD = 5 * PICO_PER_USD


@dataclass(slots=True)
class Month:
    """What was charged, as invoices will show it, and what was counted on the side."""

    events: int = 0
    charged: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    totals: dict[TotalKey, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    counts: dict[tuple[str, bool], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0] * 4))
    versions: dict[str, Version] = field(default_factory=dict)

    def move(self, owner_id: str, sku: str, lines: tuple[Line, ...], sign: int) -> None:
        """Charge lines, or take them back."""
        moved = 0
        for unit, quantity, price in lines:
            total = self.totals[owner_id, sku, unit, price]
            total[0] += sign * quantity
            total[1] += sign * quantity * price
            moved += quantity * price
        self.charged[owner_id] += sign * moved

    def count(self, version: Version, used: Used, sign: int = 1) -> None:
        """Count tokens by version alone: what they cost can then be reckoned without any line."""
        self.versions[version.id] = version
        row = self.counts[version.id, used.batch]
        row[0] += sign * (used.prompt_tokens - used.cached_tokens)
        row[1] += sign * used.cached_tokens
        row[2] += sign * used.reasoning_tokens
        row[3] += sign * (used.completion_tokens - used.reasoning_tokens)

    def reckoned(self) -> int:
        """What the counted tokens cost, in pico-dollars."""
        total = 0
        for (version_id, batch), counts in self.counts.items():
            price = self.versions[version_id].price
            full = (price.input, price.cached_input, price.reasoning or price.output, price.output)
            for amount, count in zip(full, counts, strict=True):
                total += count * (round(Fraction(amount * price.batch_percent, 100)) if batch else amount)
        return total


def month_rate(count: int) -> Month:
    """Rate a month's events at the prices of their time."""
    month, book = Month(), month_book()
    for event in month_events(count):
        version = version_found(book, event.owner_id, event.sku, event.at)
        month.move(event.owner_id, event.sku, usage_rate(version.price, event.used), 1)
        month.count(version, event.used)
        month.events += 1
    return month


def month_rerate(month: Month, count: int) -> int:
    """Rate the events anew by a corrected book, by reversal; gives how many changed."""
    before_book, after_book, changed = month_book(), month_book(corrected=True), 0
    for event in month_events(count):
        before = version_found(before_book, event.owner_id, event.sku, event.at)
        after = version_found(after_book, event.owner_id, event.sku, event.at)
        if before.id == after.id:
            continue
        month.move(event.owner_id, event.sku, usage_rate(before.price, event.used), -1)
        month.move(event.owner_id, event.sku, usage_rate(after.price, event.used), 1)
        month.count(before, event.used, -1)
        month.count(after, event.used)
        changed += 1
    return changed


def month_exact(month: Month) -> bool:
    """Whether charges, totals, invoices and the counted tokens come to the same, to the unit."""
    charged = sum(month.charged.values())
    sound = sum(amount for _, amount in month.totals.values()) == charged == month.reckoned()
    sound &= all(quantity * key[3] == amount for key, (quantity, amount) in month.totals.items())
    return sound and all(_invoice_exact(*invoice) for invoice in _invoices(month))


def version_found(book: PriceBook, owner_id: str, sku: str, at: datetime) -> Version:
    """The version in force. Errors: LookupError."""
    version = book.find(owner_id, sku, at)
    if version is None:
        raise LookupError(f"{sku} has no price at {at}")
    return version


def _invoices(month: Month) -> Iterator[tuple[list[int], int]]:
    """Each owner's lines, and what they were charged."""
    lines: dict[str, list[int]] = defaultdict(list)
    for (owner_id, *_), (_, amount) in sorted(month.totals.items()):
        lines[owner_id].append(amount)
    for owner_id, amounts in lines.items():
        yield amounts, month.charged[owner_id]


def _invoice_exact(amounts: list[int], charged: int) -> bool:
    covered = covered_of(exact_picousd=charged, later_picousd=0, wallet_picousd=CREDIT_PICOUSD - charged)
    figures = figures_of(amounts, covered_picousd=covered, tax_basis_points=1900)
    due = charged - covered
    return figures.exact_picousd == charged and (
        cents_to_pico(figures.due_cents) - figures.rounding_picousd == due if due else figures.due_cents == 0
    )
