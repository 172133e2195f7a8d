"""One stretch of a device's memory for adapters and K and V: the adapters' own part, and the cache's blocks behind it.

Nothing in it ever moves, so that a captured graph may keep its address; what is lent changes hands, not its place.
"""

import mmap
from dataclasses import dataclass

import torch
from torch import Tensor

OWN_STEP = 64 << 10
"""The adapters' own part is a multiple of it, so that every block begins where a slab's matrix may."""


@dataclass(frozen=True, slots=True)
class Arena:
    """``memory`` uint8, zeroed: ``own_bytes`` of adapters, then blocks of ``block_bytes`` each."""

    memory: Tensor
    own_bytes: int
    block_bytes: int

    @property
    def blocks(self) -> Tensor:
        """The part that K and V lie in."""
        return self.memory[self.own_bytes :]

    def block_start(self, block: int) -> int:
        """Where a block begins, in bytes."""
        return self.own_bytes + block * self.block_bytes


def arena_make(*, own_bytes: int, block_bytes: int, num_blocks: int, device: torch.device) -> Arena:
    """On a CPU its pages are taken as they are used. Raises MemoryError, or torch's error, where there is no room."""
    own_bytes = max(1, own_bytes // OWN_STEP) * OWN_STEP
    size = own_bytes + num_blocks * block_bytes
    if device.type != "cpu":
        return Arena(torch.zeros(size, dtype=torch.uint8, device=device), own_bytes, block_bytes)
    try:
        mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"{size} bytes cannot be mapped") from error
    return Arena(torch.frombuffer(mapped, dtype=torch.uint8), own_bytes, block_bytes)
