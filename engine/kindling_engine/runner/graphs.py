"""Decode steps as CUDA graphs: one launch in place of some hundred, for batches of a few fixed sizes."""

import logging
from typing import Any

import torch

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
        """Capture every size while ``order`` holds nothing but padding. Raises what a step raises.

        The largest comes first, so that the others find all the memory they need in the pool it leaves.
        """
        pool = torch.cuda.graph_pool_handle()
        streams: Any = torch.cuda.Stream  # untyped in torch
        stream = streams(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        for size in reversed(self.sizes):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(stream):
                # Compiles kernels and makes libraries take their workspace, neither of which may be captured.
                self._step(size)
            torch.cuda.synchronize(self._device)
            with torch.cuda.graph(graph, pool=pool, stream=stream):
                output = self._step(size)
            self._captured[size] = (graph, output)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        logger.info("captured decode steps of %d sizes up to %d", len(self.sizes), self.sizes[-1])

    def run(self, size: int) -> DecodeOutput | None:
        """Run the rows in order; what comes back holds until the next run. None where nothing was captured."""
        found = self._captured.get(size)
        if found is None:
            return None
        graph, output = found
        graph.replay()
        return output
