"""Decode steps as CUDA graphs: one launch in place of some hundred, for batches of a few fixed sizes."""

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kindling_engine.kernels.capture import Capture
from kindling_engine.runner.decode_step import DecodeOutput, DecodeStep

logger = logging.getLogger(__name__)

_LARGEST = 256


def bucket_sizes(max_batch: int) -> tuple[int, ...]:
    """1, 2, 4, then multiples of 8 up to 256, as far as ``max_batch`` goes; the last one holds a full batch."""
    most = min(max_batch, _LARGEST)
    sizes = [size for size in (1, 2, 4, *range(8, _LARGEST + 1, 8)) if size < most]
    return (*sizes, most)


def bucket_for(sizes: tuple[int, ...], count: int) -> int | None:
    """The smallest that holds ``count`` rows."""
    return next((size for size in sizes if size >= count), None)


class DecodeGraphs:
    """Captured decode steps of one family by size: of base rows alone, or of rows with adapters."""

    def __init__(self, step: DecodeStep, *, max_batch: int, device: torch.device) -> None:
        self.sizes = bucket_sizes(max_batch)
        self._step = step
        self._device = device
        self._captured: dict[int, tuple[Any, DecodeOutput]] = {}

    @torch.inference_mode()
    def capture(self) -> None:
        """Capture every size, or none, while ``order`` holds nothing but padding. Raises what ``Capture.graph`` raises.

        The largest comes first, so that the others find all the memory they need in the pool it leaves. Logits are
        copied to where those of all sizes lie: kept as they are made, those of each size would be its own for good,
        thousands of rows in all.
        """
        shared: list[Tensor] = []

        def step(size: int) -> DecodeOutput:
            output = self._step(size)
            if not shared:
                shared.append(torch.empty_like(output.logits))
            return DecodeOutput(output.tokens, shared[0][:size].copy_(output.logits))

        capture = Capture(self._device)
        self._captured = {size: capture.graph(partial(step, size)) for size in reversed(self.sizes)}
        logger.info("captured decode steps of %d sizes up to %d", len(self.sizes), self.sizes[-1])

    def run(self, size: int) -> DecodeOutput | None:
        """Run the rows in order; what comes back holds until the next run. None where nothing was captured."""
        found = self._captured.get(size)
        if found is None:
            return None
        graph, output = found
        graph.replay()
        return output
