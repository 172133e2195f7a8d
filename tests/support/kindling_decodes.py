"""Steps of decodes for tests of attention."""

import numpy as np
import torch

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention import AttentionInputs, DecodeRows


def decodes_make(lengths: list[int], num_blocks: int, *, pages_per_block: int = 1) -> AttentionInputs:
    """One token each of requests that have so many, in blocks of their own; block 0 fills up the tables."""
    widths = [-(-length // PAGE_SIZE) for length in lengths]
    blocks = np.zeros((len(lengths), max(widths)), dtype=np.int64)
    free = iter(np.random.default_rng(0).permutation(np.arange(1, num_blocks)))
    for row, width in enumerate(widths):
        blocks[row, :width] = [next(free) * pages_per_block for _ in range(width)]
    at = np.array(lengths) - 1
    slots = blocks[np.arange(len(lengths)), at // PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE
    rows = DecodeRows(blocks, np.array(lengths), torch.float32, torch.device("cpu"))
    return AttentionInputs(torch.from_numpy(slots), rows, ())
