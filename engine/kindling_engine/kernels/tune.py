"""Makes the choices of a start: reads those that are kept, and measures the others as long as there is time."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from kindling_engine.kernels.choice_book import ChoiceBook
from kindling_engine.kernels.clock import Clock
from kindling_engine.kernels.tuning import Choice, Config, Key, Tuner, fastest

logger = logging.getLogger(__name__)

Run = Callable[[Config], object]


@dataclass(frozen=True, slots=True)
class Bout:
    """What configurations of a kernel are compared on.

    ``result`` is held against ``expected``. Each of ``loads`` are launches that do the same on different data; a
    configuration's time is the geometric mean over the loads, so that no long one drowns the others.
    """

    result: Callable[[Config], Tensor]
    expected: Tensor
    loads: tuple[tuple[Run, ...], ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice to be made among ``configs``; ``make`` takes the memory of its inputs, which is free again behind it."""

    key: Key
    configs: tuple[Config, ...]
    make: Callable[[], Bout]
    tolerance: float

    def __str__(self) -> str:
        return " ".join(map(str, self.key))


@dataclass(frozen=True, slots=True)
class Tuned:
    """How many choices were ``read``, ``measured`` whole, ``left`` for want of time, and ``failed``."""

    read: int = 0
    measured: int = 0
    left: int = 0
    failed: int = 0


def tune(
    trials: Iterable[Trial],
    tuner: Tuner,
    book: ChoiceBook,
    *,
    clock: Clock | None,
    limit_s: float,
    now: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Choose for each of ``trials``, the most important first; without a ``clock`` only what is kept counts.

    What ``limit_s`` cuts short runs with the best that was tried, or with its first configuration, and is tried again
    at the next start. No trial that fails stops the others.
    """
    counts = {"read": 0, "measured": 0, "left": 0, "failed": 0}
    end_s = now() + limit_s
    for trial in trials:
        kept = book.find(trial.key, trial.configs)
        if kept is not None:
            tuner.adopt(trial.key, kept)
            counts["read"] += 1
            continue
        if clock is None or now() >= end_s:
            counts["left"] += 1
            continue
        try:
            choice = _choose(trial, clock, lambda: now() < end_s)
        except (
            Exception
        ) as failure:  # memory, a compiler, a device: serving goes on with the first configuration
            logger.warning("%s: not tuned: %s", trial, failure)
            counts["failed"] += 1
            continue
        tuner.adopt(trial.key, choice.config)
        if choice.whole:
            book.keep(trial.key, choice)
        counts["measured" if choice.whole else "left"] += 1
        logger.info("%s: %s, %.1f µs", trial, choice.config, choice.us)
    return Tuned(**counts)


def _choose(trial: Trial, clock: Clock, in_time: Callable[[], bool]) -> Choice:
    bout = trial.make()

    def time_us(config: Config) -> float:
        times = [clock.us([_bound(run, config) for run in load]) for load in bout.loads]
        return math.prod(times) ** (1 / len(times))

    return fastest(
        str(trial),
        trial.configs,
        bout.result,
        reference=bout.expected,
        tolerance=trial.tolerance,
        time_us=time_us,
        in_time=in_time,
    )


def _bound(run: Run, config: Config) -> Callable[[], object]:
    return lambda: run(config)
