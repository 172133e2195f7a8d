"""What serving a model brought in and cost, and what the same tokens would have cost elsewhere: pure integers."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta

from kindling_billing.money import round_half_even

EVERY_MODEL = ""
MICROS_PER_HOUR = 3_600_000_000
A_MICROSECOND = timedelta(microseconds=1)
A_DAY = timedelta(days=1)
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """From a moment on an hour of a replica of this sku, or of every sku without its own (""), costs so much."""

    sku: str
    valid_from: datetime
    picousd_per_hour: int


@dataclass(frozen=True, slots=True)
class Run:
    """A time for which one replica of a sku held its device."""

    sku: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """What a provider asks, in pico-dollars per token; cached input costs what input costs when it is None."""

    input: int
    cached_input: int | None
    output: int


@dataclass(frozen=True, slots=True)
class Margin:
    """Sums of one sku over some time; times are microseconds of replicas.

    `unpriced_us` is the part of the running time for which no cost of an hour was entered: the cost lacks it.
    `busy_us` is the part of `looked_us`, the time that engines were asked about, in which they computed.
    """

    revenue_picousd: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    running_us: int = 0
    unpriced_us: int = 0
    cost_picousd: int = 0
    busy_us: int = 0
    looked_us: int = 0

    def __add__(self, other: "Margin") -> "Margin":
        sums = (getattr(self, field.name) + getattr(other, field.name) for field in fields(Margin))
        return Margin(*sums)

    @property
    def tokens(self) -> int:
        """Tokens served: prompts, cached parts included, and answers."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def margin_picousd(self) -> int:
        return self.revenue_picousd - self.cost_picousd

    @property
    def margin_permille(self) -> int | None:
        """The margin as a part of the revenue; None without revenue."""
        return (
            round_half_even(self.margin_picousd * 1000, self.revenue_picousd)
            if self.revenue_picousd
            else None
        )

    @property
    def busy_permille(self) -> int | None:
        """The part of the time looked at in which engines computed; None when nobody looked."""
        return min(1000, round_half_even(self.busy_us * 1000, self.looked_us)) if self.looked_us else None

    @property
    def per_million_picousd(self) -> int | None:
        """What a million tokens cost to serve; None when none was served or no cost is known."""
        return (
            round_half_even(self.cost_picousd * MILLION, self.tokens)
            if self.tokens and self.is_priced
            else None
        )

    @property
    def is_priced(self) -> bool:
        """Whether a cost is known for all of the running time, and there was some."""
        return self.running_us > 0 and self.unpriced_us == 0

    def hosted_picousd(self, quote: Quote) -> int:
        """What the same tokens would have cost at a quote."""
        cached = quote.input if quote.cached_input is None else quote.cached_input
        fresh = self.prompt_tokens - self.cached_tokens
        return fresh * quote.input + self.cached_tokens * cached + self.completion_tokens * quote.output

    def hosted_per_million_picousd(self, quote: Quote) -> int | None:
        """The quote for this mixture of tokens, per million of them; None when none was served."""
        return round_half_even(self.hosted_picousd(quote) * MILLION, self.tokens) if self.tokens else None

    def even_tokens_per_hour(self, quote: Quote) -> int | None:
        """How many tokens of this mixture a replica must serve in an hour to cost no more than the quote."""
        hosted = self.hosted_picousd(quote)
        if not hosted or not self.is_priced:
            return None
        return -(-self.cost_picousd * MICROS_PER_HOUR * self.tokens // (self.running_us * hosted))

    @property
    def tokens_per_hour(self) -> int | None:
        """Tokens served in an hour of a replica."""
        return self.tokens * MICROS_PER_HOUR // self.running_us if self.running_us else None


class CostBook:
    """What an hour costs whom and when; of those that begin at the same moment the last one holds."""

    def __init__(self, rates: Iterable[Rate]) -> None:
        self._rates: dict[str, tuple[list[datetime], list[int]]] = {}
        by_sku: dict[str, list[Rate]] = defaultdict(list)
        for rate in rates:
            by_sku[rate.sku].append(rate)
        for sku, rows in by_sku.items():
            rows.sort(key=lambda rate: rate.valid_from)
            self._rates[sku] = [row.valid_from for row in rows], [row.picousd_per_hour for row in rows]

    def find(self, sku: str, at: datetime) -> int | None:
        """The cost of an hour in force: the sku's own, else everybody's; None where nothing was entered."""
        own = self._in_force(sku, at)
        return self._in_force(EVERY_MODEL, at) if own is None else own

    def changes(self, sku: str) -> list[datetime]:
        """The moments at which the answer for a sku may change, in order."""
        moments = {moment for key in (sku, EVERY_MODEL) for moment in self._rates.get(key, ([], []))[0]}
        return sorted(moments)

    def _in_force(self, sku: str, at: datetime) -> int | None:
        found = self._rates.get(sku)
        place = bisect_right(found[0], at) if found else 0
        return found[1][place - 1] if found and place else None


def running_days(
    runs: Iterable[Run], costs: CostBook, *, start: datetime, end: datetime
) -> dict[tuple[str, date], Margin]:
    """Running time and cost of each sku and UTC day within a span.

    Times are exact; a day's cost is rounded once for each cost of an hour that was in force on it.
    """
    held: dict[tuple[str, date], dict[int | None, int]] = defaultdict(lambda: defaultdict(int))
    for run in runs:
        cuts = costs.changes(run.sku)
        for since, until in _pieces(max(run.start, start), min(run.end, end), cuts):
            rate = costs.find(run.sku, since)
            held[run.sku, since.date()][rate] += (until - since) // A_MICROSECOND
    return {key: _of_rates(rates) for key, rates in held.items()}


def _of_rates(rates: dict[int | None, int]) -> Margin:
    cost = sum(
        round_half_even(micros * rate, MICROS_PER_HOUR) for rate, micros in rates.items() if rate is not None
    )
    return Margin(running_us=sum(rates.values()), unpriced_us=rates.get(None, 0), cost_picousd=cost)


def _pieces(start: datetime, end: datetime, cuts: list[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """The span cut at every UTC midnight and at these moments."""
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    place = bisect_right(cuts, start)
    while start < end:
        midnight = datetime.combine(start.date() + A_DAY, time(), UTC)
        cut = cuts[place] if place < len(cuts) else end
        until = min(end, midnight, cut)
        yield start, until
        place += until == cut
        start = until
