"""What the time of a replica costs: cut at the hours of UTC and at changes of price, in whole milliseconds; pure.

Milliseconds are counted from the beginning of the time, so those of its pieces sum to its own, wherever it is cut.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kindling_billing.book import PriceBook
from kindling_billing.money import PICO_PER_CENT, round_half_even
from kindling_billing.rating import GPU, Line

HOUR = timedelta(hours=1)
HOUR_MS = 3_600_000
A_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class HeldPart:
    """So many milliseconds of one replica under one price version."""

    version_id: str
    milliseconds: int
    price_picousd: int

    @property
    def line(self) -> Line:
        return Line(GPU, self.milliseconds, self.price_picousd)


def hour_price_plain(picousd_per_ms: int) -> int:
    """The roundest price of an hour, in pico-dollars, that is kept as this price of a millisecond: what was typed."""
    exact, unit = picousd_per_ms * HOUR_MS, PICO_PER_CENT
    while unit > 1:
        plain = round_half_even(exact, unit) * unit
        if round_half_even(plain, HOUR_MS) == picousd_per_ms:
            return plain
        unit //= 10
    return exact


def hour_floor(moment: datetime) -> datetime:
    """The beginning of a moment's hour, UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hours_cut(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """A time cut at every full hour."""
    while since < until:
        end = min(until, hour_floor(since) + HOUR)
        yield since, end
        since = end


def held_ms(began: datetime, since: datetime, until: datetime) -> int:
    """Milliseconds of a piece of a time that began at `began`."""
    return (until - began) // A_MILLISECOND - (since - began) // A_MILLISECOND


def time_rate(
    book: PriceBook, *, owner_id: str, sku: str, began: datetime, since: datetime, until: datetime
) -> tuple[HeldPart, ...] | None:
    """A piece of a replica's time by the prices of its time; None where a part of it has no price of GPU time.

    A price of nothing is none: nobody has said what the time costs.
    """
    held: dict[str, tuple[int, int]] = {}
    changes = [moment for moment in book.changes(owner_id, sku) if since < moment < until]
    for start, end in zip([since, *changes], [*changes, until], strict=True):
        milliseconds = held_ms(began, start, end)
        if not milliseconds:
            continue
        version = book.find(owner_id, sku, start)
        if version is None or not version.price.gpu_ms:
            return None
        before, _ = held.get(version.id, (0, 0))
        held[version.id] = before + milliseconds, version.price.gpu_ms
    return tuple(HeldPart(version_id, *part) for version_id, part in held.items())


def parts_cost_picousd(parts: tuple[HeldPart, ...]) -> int:
    """What the parts cost together."""
    return sum(part.line.amount_picousd for part in parts)
