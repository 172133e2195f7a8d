"""How long a launch takes, without the host in the figure and without the last launch's data in the cache."""

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Protocol

import torch

from kindling_engine.kernels.capture import Capture

# More than the L2 of any device: a launch finds nothing that the round before left there.
ROTATED_BYTES = 256 << 20
_MOST_COPIES = 64
_REPEATS = 7

Launch = Callable[[], object]


class Clock(Protocol):
    """Times launches that do the same on different data."""

    def us(self, launches: Sequence[Launch]) -> float:
        """Microseconds of one launch: the median over repeats of a round over all of them."""


class GraphClock:
    """Replays a CUDA graph of one launch on each of the inputs, so that small kernels are not timed as launches."""

    def us(self, launches: Sequence[Launch]) -> float:
        graph, kept = Capture().graph(lambda: [launch() for launch in launches])
        graph.replay()
        times = [_elapsed_ms(graph.replay) for _ in range(_REPEATS)]
        del kept
        return 1000 * median(times) / len(launches)


class EagerClock:
    """The host's clock around a launch that ends before it returns, as on a CPU."""

    def us(self, launches: Sequence[Launch]) -> float:
        times = []
        for launch in launches:
            began = time.perf_counter()
            launch()
            times.append(time.perf_counter() - began)
        return 1e6 * median(times)


def copies_for(bytes_moved: float) -> int:
    """How many sets of inputs keep the cache from answering."""
    return int(min(_MOST_COPIES, max(2, -(-ROTATED_BYTES // max(1, int(bytes_moved))))))


def _elapsed_ms(run: Launch) -> float:
    events: Any = torch.cuda.Event  # untyped in torch
    start, stop = events(enable_timing=True), events(enable_timing=True)
    start.record()
    run()
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop))
