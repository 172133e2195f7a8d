"""The tensors behind the block pool."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE

_ALIGNED_FLOATS = 4


class KvStorage:
    """K and V of every block, zeroed: ``[blocks, layers, K or V, kv_heads, PAGE_SIZE, head_dim]``, block by block.

    A (layer, head) tile of a block is one page, and pages are numbered through: block b begins at page
    ``b · pages_per_block``. A layer sees its own K or V as pages ``[kv_heads, pages, PAGE_SIZE, head_dim]`` under the
    numbers at which blocks begin; what lies in between belongs to other heads and layers. So an idle block is one
    stretch of memory that can be lent, and what reads pages by number need not know how many a block has.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        num_blocks: int,
        dtype: torch.dtype,
        device: torch.device,
        memory: Tensor | None = None,
        scales: Tensor | None = None,
    ) -> None:
        """``memory``: uint8, zeroed, as many bytes as all blocks take; without it the storage has its own.

        ``scales`` fp32 ``[layers, K or V, kv_heads]``, on the device, are there if and only if ``dtype`` is e4m3. Slots
        are bytes then: torch copies those everywhere.
        """
        self.pages_per_block = 2 * num_layers * num_kv_heads
        shape = (num_blocks, self.pages_per_block * PAGE_SIZE * head_dim)
        self._blocks = (
            torch.zeros(shape, dtype=dtype, device=device)
            if memory is None
            else memory.view(dtype).view(shape)
        )
        self.num_blocks = num_blocks
        # Per-layer views, made once: indexing a tensor costs a few microseconds, twice per layer and step.
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.slots: list[tuple[Tensor, Tensor]] = []
        self.scales: list[tuple[Tensor | None, Tensor | None]] = [(None, None)] * num_layers
        if scales is not None:
            # Each begins where a vector may: a kernel would be compiled anew for those that do not.
            rows = F.pad(scales, (0, -num_kv_heads % _ALIGNED_FLOATS))[:, :, :num_kv_heads]
            self.scales = [(row[0], row[1]) for row in rows]
        for layer in range(num_layers):
            keys, values = (
                self._pages((2 * layer + part) * num_kv_heads, num_kv_heads, head_dim) for part in (0, 1)
            )
            self.layers.append((keys, values))
            self.slots.append((_slots(keys), _slots(values)))

    def scrub(self, blocks: Tensor) -> None:
        """Zero whole blocks, int64 ``[n]`` on the storage's device, in every layer."""
        blocks_bytes = self._blocks.view(torch.uint8) if self._blocks.itemsize == 1 else self._blocks
        blocks_bytes.index_fill_(0, blocks, 0)

    @staticmethod
    def block_bytes(*, num_layers: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        return 2 * num_layers * num_kv_heads * PAGE_SIZE * head_dim * dtype.itemsize

    def _pages(self, first: int, kv_heads: int, head_dim: int) -> Tensor:
        """The pages of ``kv_heads`` heads, of which the first one has page ``first`` of each block."""
        count = (self.num_blocks - 1) * self.pages_per_block + 1
        page = PAGE_SIZE * head_dim
        offset = self._blocks.storage_offset() + first * page
        return self._blocks.as_strided(
            (kv_heads, count, PAGE_SIZE, head_dim), (page, page, head_dim, 1), offset
        )


def _slots(pages: Tensor) -> Tensor:
    slots = pages.flatten(1, 2)
    return slots.view(torch.uint8) if slots.itemsize == 1 else slots
