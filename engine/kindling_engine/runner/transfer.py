"""Numbers between host and device without waiting for either.

Pinned memory comes from torch's cache of it, which keeps a buffer back until the copies that use it have ended: so none
is rewritten while a copy is in flight, however many steps are under way. On a CPU everything here is a view.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_ALIGNMENT = 16

Numbers = NDArray[Any]


def upload(arrays: Sequence[Numbers], device: torch.device) -> list[Tensor]:
    """The arrays on the device, each in its own dtype and shape: packed into one buffer, sent in one copy."""
    if device.type == "cpu":
        return [torch.from_numpy(array) for array in arrays]
    starts, size = [], 0
    for array in arrays:
        starts.append(size)
        size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    packed = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    host = packed.numpy()
    for array, start in zip(arrays, starts, strict=True):
        host[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    sent = packed.to(device, non_blocking=True)
    views = []
    for array, start in zip(arrays, starts, strict=True):
        dtype = torch.from_numpy(array[:0]).dtype
        views.append(sent[start : start + array.nbytes].view(dtype).view(array.shape))
    return views


def upload_one(values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A list of numbers as a tensor on the device."""
    made = torch.tensor(values, dtype=dtype)
    return made if device.type == "cpu" else made.pin_memory().to(device, non_blocking=True)


def download(tensor: Tensor) -> Tensor:
    """A copy on the host, whose numbers are there once an ``Arrival`` that is noted after it has come."""
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


class Arrival:
    """A point in a device's work, noted when this is made."""

    __slots__ = ("_event",)

    def __init__(self, device: torch.device) -> None:
        events: Any = torch.cuda.Event  # untyped in torch
        self._event = events() if device.type == "cuda" else None
        if self._event is not None:
            self._event.record()

    def wait(self) -> None:
        """Let the host wait for it, and for nothing behind it."""
        if self._event is not None:
            self._event.synchronize()
