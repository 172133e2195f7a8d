"""Which of a kernel's configurations runs for a shape: the fastest of those that compute the right numbers.

Triton's own autotuner takes the fastest whatever it computes. Compilers have produced NaNs for single tiles before, so
here every configuration is compared with the kernel's reference before it may win.
"""

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_REPEATS = 5
_LAUNCHES = 20


@dataclass(frozen=True, slots=True)
class Config:
    """Tile sizes by the kernel's names of them, and how the compiler spreads them."""

    tiles: dict[str, int] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of a launch."""
        return {**self.tiles, "num_warps": self.num_warps, "num_stages": self.num_stages}

    def __hash__(self) -> int:
        return hash((*sorted(self.tiles.items()), self.num_warps, self.num_stages))

    def __str__(self) -> str:
        tiles = " ".join(f"{name}={size}" for name, size in self.tiles.items())
        return f"{tiles} warps={self.num_warps} stages={self.num_stages}".strip()


class TuningError(Exception):
    """No configuration of a kernel computes what its reference does."""


def fastest(
    name: Hashable,
    configs: Sequence[Config],
    launch: Callable[[Config], Tensor],
    *,
    reference: Tensor,
    tolerance: float,
    time_us: Callable[[Config], float],
) -> tuple[Config, float]:
    """The configuration with the least ``time_us`` of those whose result is within ``tolerance`` of the reference.

    ``tolerance`` is relative to the reference's largest magnitude. Raises TuningError.
    """
    best: tuple[Config, float] | None = None
    for config in configs:
        if not _is_right(name, config, launch, reference, tolerance):
            continue
        us = time_us(config)
        if best is None or us < best[1]:
            best = config, us
    if best is None:
        raise TuningError(f"no configuration of {name} computes what its reference does")
    return best


class Tuner:
    """Choices by kernel and shape, made once a process."""

    def __init__(self) -> None:
        self._chosen: dict[Hashable, Config] = {}

    def chosen(self, key: Hashable, configs: Sequence[Config]) -> Config:
        """The choice made for ``key``; the first of ``configs`` where none was made."""
        return self._chosen.get(key, configs[0])

    def choose(
        self,
        key: Hashable,
        configs: Sequence[Config],
        launch: Callable[[Config], Tensor],
        *,
        reference: Tensor,
        tolerance: float,
    ) -> Config:
        """Choose on the device for ``key``; as ``fastest``."""
        self._chosen[key], _ = fastest(
            key,
            configs,
            launch,
            reference=reference,
            tolerance=tolerance,
            time_us=lambda config: _device_us(launch, config),
        )
        return self._chosen[key]


TUNER = Tuner()


def error_of(result: Tensor, reference: Tensor) -> float:
    """The largest deviation, over the reference's largest magnitude; infinite where a result is not finite."""
    if not bool(result.isfinite().all()):
        return float("inf")
    largest = reference.abs().max().item() or 1.0
    return float((result.float() - reference.float()).abs().max().item() / largest)


def _is_right(
    key: Hashable,
    config: Config,
    launch: Callable[[Config], Tensor],
    reference: Tensor,
    tolerance: float,
) -> bool:
    try:
        error = error_of(launch(config), reference)
    except Exception as failure:  # a compiler's refusal has no common class
        logger.info("%s: %s cannot run: %s", key, config, failure)
        return False
    if error > tolerance:
        logger.warning("%s: %s is off by %.2g and is left out", key, config, error)
    return error <= tolerance


def _device_us(launch: Callable[[Config], Tensor], config: Config) -> float:
    events: Any = torch.cuda.Event  # untyped in torch
    times = []
    for _ in range(_REPEATS):
        start, stop = events(enable_timing=True), events(enable_timing=True)
        start.record()
        for _ in range(_LAUNCHES):
            launch(config)
        stop.record()
        torch.cuda.synchronize()
        times.append(1000 * start.elapsed_time(stop) / _LAUNCHES)
    return median(times)
