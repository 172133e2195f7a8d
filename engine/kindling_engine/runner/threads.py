"""How many threads a CPU step should use: found by running it."""

import os
import time
from collections.abc import Callable, Iterable, Mapping

import torch

_REPEATS = 5
# Steps of a large model are long enough to tell after one or two.
_ENOUGH_S = 0.5
# More threads must win by this much: each takes a core from whatever else runs here.
_WORTH_IT = 1.05
# With fewer threads than those that are slower than the best by this much, a step only gets slower still.
_HOPELESS = 1.5

Clock = Callable[[], float]


def threads_choose(
    step: Callable[[], object], candidates: Iterable[int], *, clock: Clock = time.perf_counter
) -> int:
    """Set and return the number of threads with which ``step`` is fastest, the fewest among near equals.

    The best of a few repeats counts, so that neither a neighbour's burst nor a first run decides.
    """
    took_s: dict[int, float] = {}
    for threads in sorted(candidates, reverse=True):
        torch.set_num_threads(threads)
        took_s[threads] = _best_s(step, clock)
        if took_s[threads] > min(took_s.values()) * _HOPELESS:
            break
    limit_s = min(took_s.values()) * _WORTH_IT
    chosen = min(threads for threads, seconds in took_s.items() if seconds <= limit_s)
    torch.set_num_threads(chosen)
    return chosen


def thread_candidates(cores: int) -> list[int]:
    """Powers of two below the number of cores, and the number itself."""
    return sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})


def cores_allowed(environment: Mapping[str, str] = os.environ) -> int:
    """The cores that this process may run on, or OMP_NUM_THREADS of them where that says fewer."""
    cores = len(os.sched_getaffinity(0))
    # A list has a number per level of nesting.
    wish = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(cores, int(wish)) if wish.isdecimal() and int(wish) > 0 else cores


def _best_s(step: Callable[[], object], clock: Clock) -> float:
    best_s, spent_s = float("inf"), 0.0
    for _ in range(_REPEATS):
        began = clock()
        step()
        took_s = clock() - began
        best_s, spent_s = min(best_s, took_s), spent_s + took_s
        if spent_s > _ENOUGH_S:
            break
    return best_s
