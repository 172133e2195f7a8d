"""The tensors behind the block pool."""

import torch
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE


class KvStorage:
    """K and V pages of every layer: ``[layers, kv_heads, blocks, PAGE_SIZE, head_dim]``, zeroed.

    A (head, page) tile is contiguous, and one gather along ``blocks`` yields keys that SDPA takes as they
    are.
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
    ) -> None:
        shape = (num_layers, num_kv_heads, num_blocks, PAGE_SIZE, head_dim)
        self._keys = torch.zeros(shape, dtype=dtype, device=device)
        self._values = torch.zeros(shape, dtype=dtype, device=device)
        self.num_blocks = num_blocks
        # Per-layer views, made once: indexing a tensor costs a few microseconds, twice per layer and step.
        self.layers: list[tuple[Tensor, Tensor]] = list(zip(self._keys, self._values, strict=True))
        self.slots: list[tuple[Tensor, Tensor]] = [
            (k.view(num_kv_heads, -1, head_dim), v.view(num_kv_heads, -1, head_dim)) for k, v in self.layers
        ]

    def scrub(self, blocks: tuple[int, ...]) -> None:
        """Zero whole blocks in every layer."""
        index = torch.tensor(blocks, dtype=torch.int64, device=self._keys.device)
        self._keys.index_fill_(2, index, 0)
        self._values.index_fill_(2, index, 0)

    @staticmethod
    def block_bytes(*, num_layers: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        return 2 * num_layers * num_kv_heads * PAGE_SIZE * head_dim * dtype.itemsize
