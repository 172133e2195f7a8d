"""`./kindling bench reliability`: how soon revoked, abandoned and killed things are so, what outages cost, and whether
limits, wallets and books survive all of it.

On a stack of its own, whose processes it kills; a running installation is left alone.
"""

import asyncio
import statistics
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from kindling_billing.money import PICO_PER_USD
from kindling_platform.embedded.bench_reliability import outages
from kindling_platform.embedded.bench_reliability.books import billed_share, costs_of, violations_find
from kindling_platform.embedded.bench_reliability.customers import Customer, customer_make
from kindling_platform.embedded.bench_reliability.cuts import cuts_run
from kindling_platform.embedded.bench_reliability.dollar import Race, dollar_race, payer_make
from kindling_platform.embedded.bench_reliability.gateways import PROCESSES, Fleet, fleet_running
from kindling_platform.embedded.bench_reliability.kills import Seen, kills_run
from kindling_platform.embedded.bench_reliability.limiter import Limited, limiter_run
from kindling_platform.embedded.bench_reliability.outages import Lengths, outages_run
from kindling_platform.embedded.bench_reliability.revoking import accepted_late
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.bench_reliability.times import disconnect_s, engine_restart_s, revoke_s
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.throwaway import throwaway_stack

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; the limit is looked at for `limiter_s` seconds, a dollar until `idle_s` of quiet.

    Without `restarts` of an engine that idles, its time is that of the kills under load.
    """

    loops: int
    rounds: int
    restarts: int
    limiter_s: float
    calls: int
    idle_s: float
    streams: int
    outages: Lengths


FULL = Size(8, 10, 3, 75.0, 500, 3.0, 2_000, outages.FULL)
QUICK = Size(2, 3, 0, 2.5, 120, 2.0, 60, outages.QUICK)


@dataclass(slots=True)
class Site:
    """What is measured, and what clients saw of it, for the comparison with the books.

    Customers of the limits are made `aside`, while streams are cut, when both are measured.
    """

    target: Target
    size: Size
    fleet: Fleet
    aside: ThreadPoolExecutor
    is_whole: bool
    customers: Future[tuple[Customer, Customer]] | None = None
    cut: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    minutes_above: int = 0


def reliability_bench(*, quick: bool, part: str = "") -> Figures:
    """Measure all parts or one of them on one stack, then read its books: `violations` by the name of the invariant.

    Errors: EmbeddedError, `part_unknown` among them.
    """
    if part and part not in PARTS:
        raise EmbeddedError("part_unknown", f"There is no part {part!r}; there are {', '.join(PARTS)}.")
    with throwaway_stack() as stack, stack.running() as state:
        target = Target(stack.home, state)
        count, has_slow = PROCESSES * (part in ("", "limits")), part in ("", "outages")
        with (
            fleet_running(target, count=count, has_slow=has_slow) as fleet,
            ThreadPoolExecutor(1) as aside,
        ):
            site = Site(target, QUICK if quick else FULL, fleet, aside, is_whole=not part)
            figures = Figures()
            for name, measure in PARTS.items():
                if part in ("", name):
                    figures = measure(site) | figures
        violations = violations_find(
            target, site.seen, refused=site.refused, minutes_above=site.minutes_above
        )
        if site.cut:  # only now is everything booked
            figures |= {"cut_billed": round(billed_share(target, site.cut), 6)}
    return figures | {"violations": dict(sorted(violations.items(), key=lambda one: int(one[0][1:])))}


def figures_flat(figures: Figures, before: str = "") -> dict[str, float | None]:
    """One number each, for people."""
    flat: dict[str, float | None] = {}
    for name, value in figures.items():
        flat |= figures_flat(value, f"{before}{name}_") if isinstance(value, dict) else {before + name: value}
    return flat


def _times(site: Site) -> Figures:
    """The slowest revocation, the medians of clients that leave and of engines that are killed."""
    target, size = site.target, site.size
    revoked = [revoke_s(target) for _ in range(size.rounds)]
    left = [asyncio.run(disconnect_s(target)) for _ in range(size.rounds)]
    times = {
        "revoke_s": round(max(revoked), 3),
        "disconnect_ms": round(statistics.median(left) * 1000, 1),
    }
    return times | _restart([engine_restart_s(target) for _ in range(size.restarts)])


def _limits(site: Site) -> Figures:
    """What several gateways on one cache make of a revoked key and a limit, then of a dollar with calls worth more."""
    target, size = site.target, site.size
    site.fleet.start()
    customer, payer = site.customers.result() if site.customers else _customers(target)
    urls = site.fleet.urls

    async def measured() -> tuple[int, Limited, Race]:
        # Each has a key of its own. The race comes after them: its crowd would make a limit's last answers late.
        late, limited = await asyncio.gather(
            accepted_late(target, customer, urls),
            limiter_run(target, customer, urls, seconds=size.limiter_s),
        )
        return late, limited, await dollar_race(target, payer, urls, calls=size.calls, idle_s=size.idle_s)

    late, limited, race = asyncio.run(measured())
    site.refused |= {*limited.refused, *race.refused}
    site.minutes_above += limited.minutes_above
    return {
        "gateways": PROCESSES,
        "revoked_accepted_late": late,
        "limit_admitted": limited.admitted,
        "dollar_calls": size.calls,
        "dollar_answered": race.answered,
        "dollar_failed": race.failed,
        "dollar_spent_usd": round(costs_of(target, payer.org_id) / PICO_PER_USD, 6),
    }


def _customers(target: Target) -> tuple[Customer, Customer]:
    return customer_make(target), payer_make(target)


def _cuts(site: Site) -> Figures:
    """Streams left at random points; the share of them that is billed as the engine counted is read at the end."""
    site.fleet.start()  # it loads meanwhile
    if site.is_whole:
        site.customers = site.aside.submit(_customers, site.target)
    site.cut = cuts_run(site.target, streams=site.size.streams)
    return {"cut_streams": len(site.cut)}


def _outages(site: Site) -> Figures:
    found = outages_run(site.target, site.fleet, site.size.outages)
    return {"outages": {name: asdict(one) for name, one in found.items()}}


def _kills(site: Site) -> Figures:
    """Gateway and engine in turns, under fifty streams."""
    loops = site.size.loops
    site.fleet.signal_stop()  # nobody needs it any more
    killed = asyncio.run(kills_run(site.target, loops=loops))
    site.seen += killed.seen
    return {"kill_loops": loops, "requests": len(killed.seen)} | _restart(killed.engine_restarts_s)


def _restart(seconds: list[float]) -> Figures:
    return {"engine_restart_s": round(statistics.median(seconds), 3)} if seconds else {}


PARTS: dict[str, Callable[[Site], Figures]] = {
    "times": _times, "cuts": _cuts, "limits": _limits, "outages": _outages, "kills": _kills,
}  # fmt: skip
