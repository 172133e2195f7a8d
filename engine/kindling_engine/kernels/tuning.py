"""Which of a kernel's configurations runs for a shape: the fastest of those that compute the right numbers.

Triton's own autotuner takes the fastest whatever it computes. Compilers have produced NaNs for single tiles before, so
here every configuration is compared with the kernel's reference before it may win.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

logger = logging.getLogger(__name__)

Key = tuple[object, ...]
"""What a choice depends on: the kernel's name, and what it is compiled for or how much it has to do."""

_SIZES = (4, 32, 256)
_LARGEST = 2048


@dataclass(frozen=True, slots=True)
class Config:
    """Tile sizes by the kernel's names of them, and how the compiler spreads them.

    ``registers``: the most that a thread may have, for as many thread blocks side by side as a tile is made for.
    """

    tiles: dict[str, int] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3
    registers: int | None = None

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of a launch."""
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        return {**self.tiles, "num_warps": self.num_warps, "num_stages": self.num_stages, **limit}

    def __hash__(self) -> int:
        return hash((*sorted(self.tiles.items()), self.num_warps, self.num_stages, self.registers))

    def __str__(self) -> str:
        tiles = " ".join(f"{name}={size}" for name, size in self.tiles.items())
        limit = "" if self.registers is None else f" registers={self.registers}"
        return f"{tiles} warps={self.num_warps} stages={self.num_stages}{limit}".strip()


@dataclass(frozen=True, slots=True)
class Choice:
    """A configuration and its time; ``whole``: no other was left untried."""

    config: Config
    us: float
    whole: bool = True


class TuningError(Exception):
    """No configuration of a kernel computes what its reference does."""


def size_class(rows: int) -> int:
    """The most rows of those that share a choice with ``rows``: a few, a batch, a large one, or a prompt's many.

    Steps are as large as their rows are many, and what is fastest for four is not for a thousand.
    """
    return next((size for size in _SIZES if rows <= size), _LARGEST)


def fastest(
    name: Hashable,
    configs: Sequence[Config],
    launch: Callable[[Config], Tensor],
    *,
    reference: Tensor,
    tolerance: float,
    time_us: Callable[[Config], float],
    in_time: Callable[[], bool] = lambda: True,
) -> Choice:
    """The configuration with the least ``time_us`` of those whose result is within ``tolerance`` of the reference.

    ``tolerance`` is relative to the reference's largest magnitude. One that cannot run is left out; so are those that
    come after one is found and ``in_time`` has become false. Raises TuningError.
    """
    best: Choice | None = None
    whole = True
    for config in configs:
        if best is not None and not in_time():
            whole = False
            break
        us = _us(name, config, launch, reference, tolerance, time_us)
        if us is not None and (best is None or us < best.us):
            best = Choice(config, us)
    if best is None:
        raise TuningError(f"no configuration of {name} computes what its reference does")
    return Choice(best.config, best.us, whole)


class Tuner:
    """Choices by kernel and shape, made once a process."""

    def __init__(self) -> None:
        self._chosen: dict[Key, Config] = {}

    def chosen(self, key: Key, configs: Sequence[Config]) -> Config:
        """The choice made for ``key``; the first of ``configs`` where none was made."""
        return self._chosen.get(key, configs[0])

    def adopt(self, key: Key, config: Config) -> None:
        """From now on ``config`` runs for ``key``. A captured graph keeps what it was captured with."""
        self._chosen[key] = config


TUNER = Tuner()


def error_of(result: Tensor, reference: Tensor) -> float:
    """The largest deviation, over the reference's largest magnitude; infinite where a result is not finite."""
    if not bool(result.isfinite().all()):
        return float("inf")
    largest = reference.abs().max().item() or 1.0
    return float((result.float() - reference.float()).abs().max().item() / largest)


def _us(
    name: Hashable,
    config: Config,
    launch: Callable[[Config], Tensor],
    reference: Tensor,
    tolerance: float,
    time_us: Callable[[Config], float],
) -> float | None:
    """None for a configuration that does not run, or computes something else."""
    try:
        error = error_of(launch(config), reference)
        if error <= tolerance:
            return time_us(config)
    except Exception as failure:  # a compiler's refusal has no common class
        logger.info("%s: %s cannot run: %s", name, config, failure)
        return None
    logger.warning("%s: %s is off by %.2g and is left out", name, config, error)
    return None
