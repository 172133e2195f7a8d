"""How many threads a CPU step should use: found by running it."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

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

Step = Callable[[], object]
Timed = Callable[[Step], float]
_TASKS = Path("/proc/self/task")


def undisturbed_s(step: Step) -> float:
    """Seconds that ``step`` takes, without those for which its threads waited for a core.

    An engine starts when its neighbours do; what it chooses holds for as long as it lives. The system counts how long
    each thread waited (schedstat); where it does not, the clock alone speaks.
    """
    # Outside of what is counted, so that nothing is taken off that was not in it.
    began_s, cpu_s = time.perf_counter(), time.process_time()
    before = _waited_ns()
    step()
    after = _waited_ns()
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    waited_s = sum(max(0, count - before.get(task, 0)) for task, count in after.items()) / 1e9
    # Threads may have waited at the same time; no faster than if they had shared the work.
    return max(took_s - waited_s, min(took_s, cpu_s / torch.get_num_threads()))


def _waited_ns() -> dict[str, int]:
    """Nanoseconds for which each thread was ready to run and had no core."""
    found = {}
    for task in _TASKS.iterdir():
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return found


def threads_choose(step: Step, candidates: Iterable[int], *, timed: Timed = undisturbed_s) -> int:
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
            seconds = timed(step)
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
