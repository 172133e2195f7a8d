"""What is launched as a CUDA graph."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch

Made = TypeVar("Made")


class Capture:
    """Captures graphs one after another, on a stream of its own and with one pool of memory for all of them."""

    def __init__(self, device: torch.device | None = None) -> None:
        """``device``: the current one where none is given."""
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        streams: Any = torch.cuda.Stream  # untyped in torch
        self._stream = streams(device)

    def graph(self, work: Callable[[], Made]) -> tuple[Any, Made]:
        """A graph of what ``work`` launches, and what it gave while that was captured.

        ``work`` runs once before: it compiles kernels and has libraries take their workspace, neither of which may be
        captured. Raises what a launch, a compiler or the capture raises.
        """
        before = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(before)
        try:
            with torch.cuda.stream(self._stream):
                work()
        finally:
            before.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                made = work()
        finally:
            # Torch itself leaves the thread on the capture's stream where a capture cannot be ended.
            torch.cuda.set_stream(before)
        return graph, made
