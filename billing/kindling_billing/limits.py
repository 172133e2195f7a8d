"""Limits of whoever calls: requests and tokens a minute, requests at once, money by day, month and in all.

Pure. Rates follow the generic cell rate algorithm (GCRA, ITU-T I.371): a bucket is one number, the time at which
it would be full again, so that it needs neither a window nor a clean-up. A bucket lets `burst` units pass at once
and `limit` units a minute from then on: in any minute at most `limit + burst`.
"""

from dataclasses import dataclass, field, fields
from typing import Final

BUCKETS: Final = ("requests", "prompt", "uncached", "generated")
REQUESTS: Final = 0
PERIODS: Final = ("day", "month", "total")
MINUTE_US: Final = 60_000_000
BURST_SHARE: Final = 6
BURST_FLOOR: Final = 10
# More than anybody needs, and small enough that sums stay exact in a double.
MOST: Final = 10**12


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one scope; None is no bound. Money in nano-dollars.

    `rates` are units a minute and `bursts` units at once, in the order of BUCKETS; `budgets` are in that of PERIODS.
    """

    requests_per_minute: int | None = None
    prompt_tokens_per_minute: int | None = None
    uncached_tokens_per_minute: int | None = None
    generated_tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    budget_day_nano: int | None = None
    budget_month_nano: int | None = None
    budget_total_nano: int | None = None
    # Made once, since every request looks at them.
    rates: tuple[int | None, ...] = field(init=False, repr=False, compare=False)
    bursts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    budgets: tuple[int | None, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rates = (
            self.requests_per_minute,
            self.prompt_tokens_per_minute,
            self.uncached_tokens_per_minute,
            self.generated_tokens_per_minute,
        )
        bursts = tuple(0 if rate is None else burst_of(bucket, rate) for bucket, rate in enumerate(rates))
        budgets = (self.budget_day_nano, self.budget_month_nano, self.budget_total_nano)
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "bursts", bursts)
        object.__setattr__(self, "budgets", budgets)

    @property
    def has_budget(self) -> bool:
        return any(budget is not None for budget in self.budgets)

    def money_only(self) -> "Limits":
        """The budgets alone."""
        day, month, total = self.budgets
        return Limits(budget_day_nano=day, budget_month_nano=month, budget_total_nano=total)

    def or_else(self, other: "Limits") -> "Limits":
        """These limits, with those of `other` where nothing is set."""
        names = [one.name for one in fields(self) if one.init]
        return Limits(**{name: _first(getattr(self, name), getattr(other, name)) for name in names})


@dataclass(frozen=True, slots=True)
class Scope:
    """Whom a set of limits binds: `kind` is organisation, member, key or token.

    What a token spends is booked under its key, so its budget is counted in Valkey alone. `name` is part of its keys'
    names there.
    """

    kind: str
    id: str
    limits: Limits
    name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.kind}:{self.id}")

    @property
    def is_booked(self) -> bool:
        """Whether the ledger knows what this scope has spent."""
        return self.kind != "token"


def burst_of(bucket: int, limit: int) -> int:
    """Units that may pass at once: a minute's worth of tokens, ten seconds' worth of requests but no fewer than 10."""
    if bucket != REQUESTS:
        return limit
    return max(limit // BURST_SHARE, min(limit, BURST_FLOOR))


def charge_us(units: int, limit: int) -> float:
    """By how much a bucket's time moves for so many units."""
    return units * MINUTE_US / limit


def wait_us(full_at_us: float, now_us: float, *, units: int, limit: int, burst: int) -> float:
    """How long until so many units fit in; 0 when they do. More than a burst fits when the bucket is unused."""
    units = min(units, burst)
    over = max(full_at_us, now_us) + charge_us(units, limit) - now_us - charge_us(burst, limit)
    return max(over, 0.0)


def remaining(offset_us: float, *, limit: int, burst: int) -> int:
    """Units that fit in now, when the bucket is full again in `offset_us`."""
    return max(int(burst - max(offset_us, 0.0) * limit / MINUTE_US + 1e-6), 0)


def _first(mine: int | None, other: int | None) -> int | None:
    return other if mine is None else mine
