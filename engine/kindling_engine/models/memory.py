"""Telling that memory ran out, which is no fault of a checkpoint's and has a remedy."""

import torch


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator has no class of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
