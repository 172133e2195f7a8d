"""The month in a real ledger: posted by the services that post customers' usage, invoiced, rated anew, and proved.

What must come out is counted beside it by version alone, as in the month that is only rated.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from time import perf_counter

from django.db import connection

from kindling_billing.bench.events import OWNERS, Event, month_book, month_events
from kindling_billing.bench.month import CREDIT_PICOUSD, Month, version_found
from kindling_billing.book import PriceBook, Version
from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models import Invoice, LedgerTransaction, UsageTotal
from kindling_billing.proofs import books_prove
from kindling_billing.rating import usage_rate
from kindling_billing.services import credit_grant
from kindling_billing.settlements import account_sum
from kindling_billing.terms import terms_set
from kindling_billing.usage import Correction, UsageCharge, usage_correct, usage_post

# As many as the rater books in one transaction.
WINDOW = 500
STRETCH = 100_000
MONTHS = (
    (date(2026, 3, 1), datetime(2026, 4, 10, tzinfo=UTC)),
    (date(2026, 4, 1), datetime(2026, 5, 10, tzinfo=UTC)),
)
RUN = 1
Say = Callable[[str, float], None]


@dataclass(slots=True)
class PostedMonth:
    """What came of it: seconds of each part, and whether every sum was exact each time."""

    seconds: dict[str, float] = field(default_factory=dict)
    exact: bool = True
    corrected: int = 0


def month_post(count: int, *, say: Say = lambda part, share: None) -> PostedMonth:
    """Post so many events, make the invoices, rate anew, make the next invoices; the database must be empty.

    `say` hears how much of a part is done, from 0 to 1.
    """
    done, month, before, after = PostedMonth(), Month(), month_book(), month_book(corrected=True)
    _owners_open()
    with _timed(done, "post_s"):
        posted = sum(_charges_post(window, month, before) for window in _windows(count, "post", say))
    done.exact &= posted == count == month.events and _sums_hold(month)
    with _timed(done, "invoice_s"):
        _invoices_make(*MONTHS[0])
    with _timed(done, "rerate_s"):
        windows = _windows(count, "rate anew", say)
        done.corrected = sum(_window_correct(window, month, before, after) for window in windows)
    done.exact &= done.corrected > 0 and _sums_hold(month)
    with _timed(done, "invoice_again_s"):
        _invoices_make(*MONTHS[1])
    with connection.cursor() as cursor:
        # A database that was filled this minute would plan the proofs as if its tables were empty.
        cursor.execute("ANALYZE")
    with _timed(done, "prove_s"):
        done.exact &= not books_prove().findings and _invoices_hold() and _count() == count + done.corrected
    return done


def _owners_open() -> None:
    """Everybody begins with some credit, and every fourth pays after use."""
    for number, owner_id in enumerate(OWNERS):
        credit_grant(
            owner_id=owner_id,
            amount_picousd=CREDIT_PICOUSD,
            source_id=owner_id,
            memo="Credit",
            actor_id="bench",
        )
        if number % 4 == 0:
            terms_set(owner_id=owner_id, mode="postpaid", credit_limit_picousd=10**15, tax_basis_points=1900)


def _windows(count: int, part: str, say: Say) -> Iterator[list[tuple[int, Event]]]:
    """All events, those of an organisation together as far as a stretch of the month goes."""
    numbered, done = enumerate(month_events(count)), 0
    while stretch := sorted(islice(numbered, STRETCH), key=lambda row: row[1].owner_id):
        for start in range(0, len(stretch), WINDOW):
            window = stretch[start : start + WINDOW]
            yield window
            done += len(window)
            say(part, done / count)


def _charges_post(window: list[tuple[int, Event]], month: Month, book: PriceBook) -> int:
    charges = []
    for number, event in window:
        version = version_found(book, event.owner_id, event.sku, event.at)
        charges.append(_charge(number, event, version))
        month.count(version, event.used)
    month.events += len(window)
    return len(usage_post(charges))


def _window_correct(
    window: list[tuple[int, Event]],
    month: Month,
    book: PriceBook,
    corrected: PriceBook,
) -> int:
    corrections = []
    for number, event in window:
        before = version_found(book, event.owner_id, event.sku, event.at)
        after = version_found(corrected, event.owner_id, event.sku, event.at)
        if before.id != after.id:
            corrections.append(Correction(_charge(number, event, before), _charge(number, event, after), RUN))
            month.count(before, event.used, -1)
            month.count(after, event.used)
    return usage_correct(corrections)


def _charge(number: int, event: Event, version: Version) -> UsageCharge:
    lines = usage_rate(version.price, event.used)
    return UsageCharge(
        owner_id=event.owner_id,
        request_id=f"req_{number}",
        cost_picousd=sum(line.amount_picousd for line in lines),
        memo="Usage",
        sku=event.sku,
        label=event.sku,
        used_at=event.at,
        lines=lines,
    )


def _invoices_make(month: date, now: datetime) -> None:
    for owner_id in OWNERS:
        invoice_finalise(owner_id=owner_id, month=month, now=now)


def _sums_hold(month: Month) -> bool:
    """Whether the ledger's revenue and the months' totals are what the counted tokens cost."""
    totals = sum(map(int, UsageTotal.objects.values_list("amount_picousd", flat=True)))
    return account_sum("revenue") == totals == month.reckoned()


def _invoices_hold() -> bool:
    """Whether the invoices of both months together are the revenue."""
    invoiced = sum(map(int, Invoice.objects.values_list("exact_picousd", flat=True)))
    return invoiced == account_sum("revenue")


def _count() -> int:
    return LedgerTransaction.objects.filter(source_type="usage").count()


@contextmanager
def _timed(done: PostedMonth, name: str) -> Iterator[None]:
    begun = perf_counter()
    yield
    done.seconds[name] = round(perf_counter() - begun, 2)
