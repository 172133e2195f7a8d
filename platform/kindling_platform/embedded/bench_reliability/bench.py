"""`./kindling bench reliability`: how soon revoked, abandoned and killed things are so, what outages cost, and whether
limits, wallets and books survive all of it.

On a stack of its own, whose processes it kills; a running installation is left alone.
"""

import asyncio
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from kindling_billing.money import PICO_PER_USD
from kindling_platform.embedded.bench_reliability import outages
from kindling_platform.embedded.bench_reliability.books import billed_share, costs_of, violations_find
from kindling_platform.embedded.bench_reliability.customers import customer_make
from kindling_platform.embedded.bench_reliability.cuts import cuts_run
from kindling_platform.embedded.bench_reliability.dollar import dollar_race, payer_make
from kindling_platform.embedded.bench_reliability.gateways import PROCESSES, gateways_running
from kindling_platform.embedded.bench_reliability.kills import Seen, kills_run
from kindling_platform.embedded.bench_reliability.limiter import limiter_run
from kindling_platform.embedded.bench_reliability.outages import Lengths, outages_run
from kindling_platform.embedded.bench_reliability.revoking import accepted_late
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.bench_reliability.times import disconnect_s, engine_restart_s, revoke_s
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.throwaway import throwaway_stack

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; the limit is looked at for `limiter_s` seconds."""

    loops: int
    rounds: int
    restarts: int
    limiter_s: float
    calls: int
    streams: int
    outages: Lengths


FULL = Size(8, 10, 3, 75.0, 500, 2_000, outages.FULL)
QUICK = Size(2, 3, 1, 2.5, 120, 60, outages.QUICK)


@dataclass(slots=True)
class Evidence:
    """What clients saw, for the comparison with the books."""

    seen: list[Seen] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    minutes_above: int = 0


def reliability_bench(*, quick: bool, part: str = "") -> Figures:
    """Measure all parts or one of them on one stack, then read its books: `violations` by the name of the invariant.

    Errors: EmbeddedError, `part_unknown` among them.
    """
    if part and part not in PARTS:
        raise EmbeddedError("part_unknown", f"There is no part {part!r}; there are {', '.join(PARTS)}.")
    size, evidence, figures = QUICK if quick else FULL, Evidence(), Figures()
    with throwaway_stack() as stack, stack.running() as state:
        target = Target(stack.home, state)
        for name, measure in PARTS.items():
            if part in ("", name):
                figures |= measure(target, size, evidence)
        violations = violations_find(
            target, evidence.seen, refused=evidence.refused, minutes_above=evidence.minutes_above
        )
    return figures | {"violations": dict(sorted(violations.items(), key=lambda one: int(one[0][1:])))}


def figures_flat(figures: Figures, before: str = "") -> dict[str, float | None]:
    """One number each, for people."""
    flat: dict[str, float | None] = {}
    for name, value in figures.items():
        flat |= figures_flat(value, f"{before}{name}_") if isinstance(value, dict) else {before + name: value}
    return flat


def _times(target: Target, size: Size, _: Evidence) -> Figures:
    """The slowest revocation, the medians of clients that leave and of engines that are killed."""
    revoked = [revoke_s(target) for _ in range(size.rounds)]
    left = [asyncio.run(disconnect_s(target)) for _ in range(size.rounds)]
    restarted = [engine_restart_s(target) for _ in range(size.restarts)]
    return {
        "revoke_s": round(max(revoked), 3),
        "disconnect_ms": round(statistics.median(left) * 1000, 1),
        "engine_restart_s": round(statistics.median(restarted), 3),
    }


def _limits(target: Target, size: Size, evidence: Evidence) -> Figures:
    """What several gateways on one cache make of a revoked key, a limit, and a dollar with calls worth more."""
    customer, payer = customer_make(target), payer_make(target)
    with gateways_running(target) as urls:
        late = accepted_late(target, customer, urls)
        limited = limiter_run(target, customer, urls, seconds=size.limiter_s)
        race = dollar_race(target, payer, urls, calls=size.calls)
    evidence.refused |= {*limited.refused, *race.refused}
    evidence.minutes_above += limited.minutes_above
    return {
        "gateways": PROCESSES,
        "revoked_accepted_late": late,
        "limit_admitted": limited.admitted,
        "dollar_calls": size.calls,
        "dollar_answered": race.answered,
        "dollar_failed": race.failed,
        "dollar_spent_usd": round(costs_of(target, payer.org_id) / PICO_PER_USD, 6),
    }


def _cuts(target: Target, size: Size, _: Evidence) -> Figures:
    """The share of streams, left at random points, that is billed as the engine counted them."""
    cut = cuts_run(target, streams=size.streams)
    return {"cut_streams": len(cut), "cut_billed": round(billed_share(target, cut), 6)}


def _outages(target: Target, size: Size, _: Evidence) -> Figures:
    return {"outages": {name: asdict(one) for name, one in outages_run(target, size.outages).items()}}


def _kills(target: Target, size: Size, evidence: Evidence) -> Figures:
    """Gateway and engine in turns, under fifty streams."""
    seen = asyncio.run(kills_run(target, loops=size.loops))
    evidence.seen += seen
    return {"kill_loops": size.loops, "requests": len(seen)}


PARTS: dict[str, Callable[[Target, Size, Evidence], Figures]] = {
    "times": _times, "limits": _limits, "cuts": _cuts, "outages": _outages, "kills": _kills,
}  # fmt: skip
