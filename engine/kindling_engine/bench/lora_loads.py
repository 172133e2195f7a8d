"""The loads of the adapter bench: which request asks for which adapter."""

from dataclasses import dataclass

import numpy as np

from kindling_engine.bench.workloads import Workload


@dataclass(frozen=True, slots=True)
class LoraLoad:
    """Requests of equal lengths with an adapter each, "" for the base; ``at_once`` 0 sends all of them at once."""

    work: Workload
    adapters: tuple[str, ...]
    at_once: int = 0


def spread(work: Workload, names: list[str], seed: int) -> LoraLoad:
    """Every adapter as often as the others, as far as there are requests; none gives the base."""
    if not names:
        return LoraLoad(work, ("",) * work.requests)
    if len(names) <= work.requests:
        return LoraLoad(work, tuple(names[index % len(names)] for index in range(work.requests)))
    chosen = np.random.default_rng(seed).choice(len(names), work.requests, replace=False)
    return LoraLoad(work, tuple(names[index] for index in chosen))


def zipf(work: Workload, names: list[str], seed: int, *, at_once: int) -> LoraLoad:
    """Requests one after the other whose adapters follow Zipf's law with exponent 1."""
    shares = 1 / np.arange(1, len(names) + 1)
    chosen = np.random.default_rng(seed).choice(len(names), work.requests, p=shares / shares.sum())
    return LoraLoad(work, tuple(names[index] for index in chosen), at_once)
