"""How many threads a CPU step should use: found by running it."""

import time
from collections.abc import Callable, Iterable

import torch

_REPEATS = 4
# More threads must win by this much: each takes a core from whatever else runs here.
_WORTH_IT = 1.05


def threads_choose(step: Callable[[], object], candidates: Iterable[int]) -> int:
    """Set and return the number of threads with which ``step`` is fastest, the fewest among near equals.

    The best of a few repeats counts, so that a neighbour's burst does not decide.
    """
    chosen, chosen_s = 1, float("inf")
    for threads in sorted(candidates):
        torch.set_num_threads(threads)
        step()
        took_s = min(_seconds(step) for _ in range(_REPEATS))
        if took_s * _WORTH_IT < chosen_s:
            chosen, chosen_s = threads, took_s
    torch.set_num_threads(chosen)
    return chosen


def thread_candidates(cores: int) -> list[int]:
    """Powers of two below the number of cores, and the number itself."""
    return sorted({1 << power for power in range(cores.bit_length()) if 1 << power <= cores} | {cores})


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began
