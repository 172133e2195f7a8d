"""Measures problems: the tuner picks a configuration, then ours and the peers take turns on the same inputs."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from kindling_engine.bench.contest import say
from kindling_engine.bench.kernel.ceilings import Ceilings
from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels.clock import Clock, Launch, copies_for
from kindling_engine.kernels.tuning import Config, error_of, fastest


@dataclass(slots=True)
class Row:
    """What was measured of one problem; ``why_not`` tells of each peer that gave no figure."""

    problem: Problem
    us: float
    fraction: float
    error: float
    config: Config
    peers_us: dict[str, float] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """The row's keys in the report."""
        best = min(self.peers_us, key=lambda name: self.peers_us[name], default=None)
        return {
            "op": self.problem.op,
            "shape": self.problem.shape,
            "dtype": self.problem.dtype,
            "us": round(self.us, 2),
            "fraction_of_ceiling": round(self.fraction, 3),
            "best_peer": best,
            "peer_us": None if best is None else round(self.peers_us[best], 2),
            "max_error": float(f"{self.error:.2g}"),
            "config": str(self.config),
            "peers": {name: round(us, 2) for name, us in self.peers_us.items()},
            "why_not": self.why_not,
        }


@torch.inference_mode()
def rows_measure(
    problems: Iterable[Problem], ceilings: Ceilings, clock: Clock
) -> tuple[list[Row], dict[str, str]]:
    """A row for each problem that our kernel solves rightly; the others by name with the reason."""
    rows, failed = [], {}
    for problem in problems:
        name = f"{problem.op} {problem.shape} {problem.dtype}"
        try:
            row = _measure(problem, ceilings, clock)
        except Exception as error:  # one that nobody foresaw must not cost the figures of all others
            failed[name] = f"{error}"[:300] or type(error).__name__
            say(f"{name}: {failed[name]}")
            continue
        rows.append(row)
        best = min(row.peers_us.values(), default=None)
        say(
            f"{name}: {row.us:,.1f} µs, {row.fraction:.0%} of the ceiling, error {row.error:.1e}"
            + (f", best peer {best:,.1f} µs" if best else "")
        )
    return rows, failed


def _measure(problem: Problem, ceilings: Ceilings, clock: Clock) -> Row:
    count = copies_for(problem.bytes_read + problem.bytes_written)
    sets = [problem.inputs(index) for index in range(count)]
    expected = problem.reference(sets[0])
    choice = fastest(
        problem.op,
        problem.configs,
        # Inputs that a launch changes are made anew before its result is looked at.
        lambda config: problem.ours(problem.inputs(0), config),
        reference=expected,
        tolerance=problem.tolerance,
        time_us=lambda config: clock.us(_launches(problem, sets, config)),
    )
    error = error_of(problem.ours(problem.inputs(0), choice.config), expected)
    least_us = ceilings.us(
        bytes_read=problem.bytes_read, bytes_written=problem.bytes_written, flops=problem.flops
    )
    row = Row(problem, choice.us, least_us / choice.us, error, choice.config)
    for name, make in problem.peers.items():
        try:
            launches = [make(one) for one in sets]
            peer_error = error_of(make(problem.inputs(0))(), expected)
            if peer_error > 4 * problem.tolerance:
                row.why_not[name] = f"its result is off by {peer_error:.1e}"
                continue
            row.peers_us[name] = clock.us(launches)
        except Exception as error:  # whatever a peer raises is its own affair
            row.why_not[name] = f"{type(error).__name__}: {error}"[:200]
            with suppress(Exception):
                torch.cuda.synchronize()
    # Ours again after the peers: the better of two, as clocks rise and fall during a run.
    row.us = min(choice.us, clock.us(_launches(problem, sets, choice.config)))
    row.fraction = least_us / row.us
    return row


def _launches(problem: Problem, sets: list[Any], config: Config) -> list[Launch]:
    return [partial(problem.ours, one, config) for one in sets]
