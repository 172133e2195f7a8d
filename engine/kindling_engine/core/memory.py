"""Telling that a start failed for want of memory, which has a remedy."""

import torch

OUT_OF_MEMORY = (
    "There is not enough memory for the model and its cache. Lower --kv-tokens or --max-batch, keep the weights "
    "smaller with --weights (fp16 or int8wo on a CPU, fp8 on a Hopper GPU), or serve a smaller model."
)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a device or on the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator has no class of its own.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
