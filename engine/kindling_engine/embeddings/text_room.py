"""The scheduler's view of memory where there is no KV cache."""

from collections.abc import Sequence

from kindling_engine.kvcache.manager import PAGE_SIZE, BlockTable, KvManager
from kindling_engine.kvcache.prefix import UNKNOWN, Prefix


class TextRoom(KvManager):
    """Room for any number of texts of up to ``context_length`` tokens, none of which share anything.

    An encoder computes a text at once and keeps nothing of it.
    """

    def __init__(self, *, context_length: int) -> None:
        super().__init__(num_blocks=-(-context_length // PAGE_SIZE) + 1, revision="", kv_dtype="")

    def prefix_find(self, table: BlockTable, tokens: Sequence[int]) -> Prefix:
        """Nothing is ever found."""
        return UNKNOWN

    def blocks_missing(self, table: BlockTable, num_tokens: int) -> int:
        """None ever are."""
        return 0

    def publish(self, table: BlockTable, tokens: Sequence[int], computed: int) -> None:
        """Does nothing: there is no block to find."""
