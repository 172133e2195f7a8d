"""`./kindling bench reliability`: how soon revoked, abandoned and killed things are so, and whether the books survive.

On a stack of its own, whose processes it kills; a running installation is left alone.
"""

import asyncio
import statistics
from dataclasses import dataclass

from kindling_platform.embedded.bench_reliability.books import violations_find
from kindling_platform.embedded.bench_reliability.kills import kills_run
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.bench_reliability.times import disconnect_s, engine_restart_s, revoke_s
from kindling_platform.embedded.throwaway import throwaway_stack

LOOPS, QUICK_LOOPS = 8, 2


@dataclass(frozen=True, slots=True)
class Reliability:
    """Slowest revocation, median of clients that leave, median of restarts, and broken invariants by name."""

    revoke_s: float
    disconnect_ms: float
    engine_restart_s: float
    kill_loops: int
    requests: int
    violations: dict[str, int]

    @property
    def figures(self) -> dict[str, float | None]:
        """One number each, for people."""
        flat: dict[str, float | None] = {
            "revoke_s": self.revoke_s,
            "disconnect_ms": self.disconnect_ms,
            "engine_restart_s": self.engine_restart_s,
            "kill_loops": self.kill_loops,
            "requests": self.requests,
        }
        return flat | {f"violations_{name}": count for name, count in self.violations.items()}


def reliability_bench(*, quick: bool) -> Reliability:
    """Measure, then kill gateway and engine in turns under 50 streams, then read the books. Errors: EmbeddedError."""
    loops, rounds = (QUICK_LOOPS, 3) if quick else (LOOPS, 10)
    with throwaway_stack() as stack, stack.running() as state:
        target = Target(stack.home, state)
        revoked = [revoke_s(target) for _ in range(rounds)]
        left = [asyncio.run(disconnect_s(target)) for _ in range(rounds)]
        restarted = [engine_restart_s(target) for _ in range(min(rounds, 3))]
        seen = asyncio.run(kills_run(target, loops=loops))
        return Reliability(
            revoke_s=round(max(revoked), 3),
            disconnect_ms=round(statistics.median(left) * 1000, 1),
            engine_restart_s=round(statistics.median(restarted), 3),
            kill_loops=loops,
            requests=len(seen),
            violations=violations_find(target, seen),
        )
