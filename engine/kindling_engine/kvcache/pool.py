"""Block pool: reference counts, an LRU free list and the index of blocks that hold a known prefix.

Bookkeeping only; the tensors live in ``kvcache.storage``. Every operation is O(1) per block.
Block 0 is never handed out: it stays zero and pads the block tables of short rows.
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice

NULL_BLOCK = 0


class BlockPool:
    """Fixed set of blocks, each free, or owned by one or more requests.

    A free block may still hold a published prefix. It then sits in the free list in LRU order and is
    found again by ``lookup`` until somebody else takes it.
    """

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise ValueError("a pool needs at least two blocks, as block 0 is reserved")
        self.capacity = num_blocks - 1
        self._refs = [0] * num_blocks
        self._hash_of: list[bytes | None] = [None] * num_blocks
        self._block_of: dict[bytes, int] = {}
        self._free: OrderedDict[int, None] = OrderedDict((block, None) for block in range(1, num_blocks))

    @property
    def free_count(self) -> int:
        return len(self._free)

    def refs(self, block: int) -> int:
        return self._refs[block]

    def is_published(self, block: int) -> bool:
        return self._hash_of[block] is not None

    def allocate(self, count: int, *, empty: bool = False) -> list[int] | None:
        """Take ``count`` blocks, least recently used first, or none at all when too few are free.

        ``empty``: only those that hold no known prefix; they stand in front of the others.
        """
        if count > len(self._free):
            return None
        if empty and any(map(self.is_published, islice(self._free, count))):
            return None
        taken = []
        for _ in range(count):
            block, _none = self._free.popitem(last=False)
            self.forget(block)
            self._refs[block] = 1
            taken.append(block)
        return taken

    def lookup(self, block_hash: bytes) -> int | None:
        return self._block_of.get(block_hash)

    def knows(self, block_hash: bytes) -> bool:
        return block_hash in self._block_of

    def share(self, block: int) -> None:
        """Add an owner to a published block, free or not."""
        if self._refs[block] == 0:
            del self._free[block]
        self._refs[block] += 1

    def publish(self, block: int, block_hash: bytes) -> None:
        """Make a full block findable; the first block published under a hash keeps it."""
        if self._hash_of[block] is None and block_hash not in self._block_of:
            self._hash_of[block] = block_hash
            self._block_of[block_hash] = block

    def forget(self, block: int) -> bytes | None:
        """Take a block's content out of the prefix index; returns the hash that it had there."""
        block_hash = self._hash_of[block]
        if block_hash is not None:
            self._hash_of[block] = None
            del self._block_of[block_hash]
        return block_hash

    def release(self, blocks: Sequence[int]) -> list[int]:
        """Drop one owner of each block, and return those that became free.

        Goes from the last block to the first, so that the tail of a prefix is evicted before its head.
        Blocks without a known prefix are worth nothing to anybody and are reused first.
        """
        freed = []
        for block in reversed(blocks):
            self._refs[block] -= 1
            if self._refs[block] < 0:
                raise RuntimeError(f"block {block} was released more often than it was taken")
            if self._refs[block] == 0:
                self._free[block] = None
                if self._hash_of[block] is None:
                    self._free.move_to_end(block, last=False)
                freed.append(block)
        return freed
