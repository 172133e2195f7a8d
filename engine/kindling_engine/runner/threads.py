"""How many threads a CPU step should use: found by running it."""

import os
import time
from collections.abc import Callable, Iterable, Mapping

import torch

from kindling_engine.protocol.control_groups import ControlGroups

_ROUNDS = 5
# Steps of a large model are long enough to tell after two.
_LEAST_ROUNDS = 2
_ENOUGH_S = 1.0
# More threads must win by this much: each takes a core from whatever else runs here.
_WORTH_IT = 1.05
# With fewer threads than those that are slower than the best by this much, a step only gets slower still.
_HOPELESS = 1.5

Clock = Callable[[], float]


def threads_choose(
    step: Callable[[], object], candidates: Iterable[int], *, clock: Clock = time.perf_counter
) -> int:
    """Set and return the number of threads with which ``step`` is fastest, the fewest among near equals.

    They take turns, and the best of a few rounds counts, so that no neighbour's burst decides. The first run of all is
    not timed: it pays for what is made once, and whoever paid would lose.
    """
    contenders = sorted(candidates, reverse=True)
    torch.set_num_threads(contenders[0])
    step()
    took_s = dict.fromkeys(contenders, float("inf"))
    spent_s = 0.0
    for rounds in range(_ROUNDS):
        if rounds >= _LEAST_ROUNDS and spent_s > _ENOUGH_S:
            break
        for threads in contenders:
            torch.set_num_threads(threads)
            began = clock()
            step()
            seconds = clock() - began
            spent_s += seconds
            took_s[threads] = min(took_s[threads], seconds)
            if took_s[threads] > min(took_s.values()) * _HOPELESS:
                contenders = [more for more in contenders if more > threads]
                break
        if len(contenders) == 1:
            break
    limit_s = min(took_s.values()) * _WORTH_IT
    chosen = min(threads for threads, seconds in took_s.items() if seconds <= limit_s)
    torch.set_num_threads(chosen)
    return chosen


def thread_candidates(cores: int) -> list[int]:
    """Powers of two below the number of cores, and the number itself."""
    return sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})


def cores_allowed(environment: Mapping[str, str] = os.environ) -> int:
    """The cores that this process may keep busy, or OMP_NUM_THREADS of them where that says fewer."""
    cores = ControlGroups().cores()
    # A list has a number per level of nesting.
    wish = environment.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(cores, int(wish)) if wish.isdecimal() and int(wish) > 0 else cores
