"""One row of the bench: an operation on one shape, ours and every peer's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kindling_engine.kernels.tuning import Config

Make = Callable[[Any], Callable[[], Tensor]]
"""From a set of inputs to a launch on them that returns the operation's result."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``inputs`` makes the n-th set of inputs; ``ours`` launches our kernel on one, in a configuration or the first.

    ``bytes_read``, ``bytes_written`` and ``flops`` are what the operation cannot do without. ``tolerance`` is
    relative to the reference's largest magnitude. A peer's maker raises where the peer is not installed or has no
    such shape.
    """

    op: str
    shape: str
    dtype: str
    inputs: Callable[[int], Any]
    ours: Callable[[Any, Config | None], Tensor]
    reference: Callable[[Any], Tensor]
    configs: tuple[Config, ...]
    tolerance: float
    bytes_read: float
    bytes_written: float
    flops: float = 0.0
    peers: Mapping[str, Make] = field(default_factory=dict)
