"""For how long the threads of a step watch for each other before they sleep."""

import resource
import time
from collections.abc import Callable

WATCH_CYCLES = 100_000
"""Some 40 µs: what a thread may be behind where both have a core to themselves."""
_WINDOW_S = 0.02
_OFTEN_HZ = 120
"""On an idle machine some 35 times a second, beside a process that wants a core 300 times and more."""
_FIRST_REST_S, _MOST_REST_S = 0.1, 3.2


def taken_away() -> int:
    """How often a thread of this process had its core taken away."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


class Patience:
    """Threads watch while nobody else wants their cores.

    One whose core is taken away keeps the others watching in vain, on cores that somebody wants. Where that happens
    often, threads sleep at once for a while, and longer each time in a row.
    """

    def __init__(
        self, taken: Callable[[], int] = taken_away, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._taken, self._clock = taken, clock
        self._watches, self._began_s, self._before = False, 0.0, 0
        self._seen_s, self._seen = 0.0, 0
        self._rest_s, self._rest_until_s = _FIRST_REST_S, float("-inf")

    def begin(self) -> int:
        """The cycles to watch for in the step that begins."""
        self._began_s = self._clock()
        self._watches = self._began_s >= self._rest_until_s
        if not self._watches:
            return 0
        self._before = self._taken()
        return WATCH_CYCLES

    def end(self) -> None:
        """Look at the step that has ended."""
        if not self._watches:
            return
        now_s = self._clock()
        self._seen_s += now_s - self._began_s
        self._seen += self._taken() - self._before
        if self._seen_s < _WINDOW_S:
            return
        if self._seen > _OFTEN_HZ * self._seen_s:
            self._rest_until_s = now_s + self._rest_s
            self._rest_s = min(2 * self._rest_s, _MOST_REST_S)
        else:
            self._rest_s = max(self._rest_s / 2, _FIRST_REST_S)
        self._seen_s, self._seen = 0.0, 0
