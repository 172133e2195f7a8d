"""Idle blocks that are lent, and how they come back: the rules of the lender, who knows nothing of what borrows.

Blocks are lent only while no request lacks any, never more than ``limit`` at a time, and an eighth of all stays free
for requests to grow into. They are called back before any request is preempted: what nobody uses comes at once, and
what is in use is due as soon as its users have stepped back. Whoever borrows never makes a request give up a block.
"""

from typing import Protocol

from kindling_engine.kvcache.pool import BlockPool

_LEFT_FREE = 8
"""One block in so many."""


class Borrower(Protocol):
    """Who has borrowed blocks."""

    def recall(self, count: int) -> int:
        """Give ``count`` blocks back, or what there is; how many of those still missing will come without anything
        else being done than steps under way ending.
        """


class BlockLoans:
    """What of a pool is lent. Every block has one owner: nobody, requests, or whoever borrowed it."""

    def __init__(self, pool: BlockPool, *, limit: int = 0) -> None:
        self._pool = pool
        self._reserve = -(-pool.capacity // _LEFT_FREE)
        self._lent: set[int] = set()
        self.limit = limit
        self.borrower: Borrower | None = None
        self.wanted = False
        """Whether a request lacked blocks when the last step was planned."""
        self.due = 0
        """Blocks that were called back and are on their way."""
        self.borrowed = self.recalled = 0
        """Blocks lent so far, and those that came back while requests lacked some."""

    @property
    def lent(self) -> int:
        return len(self._lent)

    def room(self) -> int:
        """Blocks that could be lent now, if those are given up that hold a known prefix."""
        if self.wanted:
            return 0
        return max(0, min(self.limit - self.lent, self._pool.free_count - self._reserve))

    def take(self, count: int, *, cached: bool) -> list[int] | None:
        """Lend ``count`` blocks, or none; only with ``cached`` those that hold a known prefix as well."""
        if count > self.room():
            return None
        blocks = self._pool.allocate(count, empty=not cached)
        if blocks is not None:
            self._lent.update(blocks)
            self.borrowed += count
        return blocks

    def give_back(self, blocks: list[int]) -> None:
        """Take lent blocks back. Raises RuntimeError for one that is not lent."""
        for block in blocks:
            if block not in self._lent:
                raise RuntimeError(f"block {block} was given back, and had not been lent")
            self._lent.discard(block)
        self._pool.release(blocks)
        if self.wanted:
            self.recalled += len(blocks)

    def recall(self, count: int) -> None:
        """Call ``count`` blocks back for a request; some may be free at once, others ``due``."""
        self.wanted = True
        if self._lent and self.borrower is not None:
            self.due = self.borrower.recall(count)

    def step_begins(self) -> None:
        """A step is planned anew: nobody lacks anything yet."""
        self.wanted = False
        self.due = 0
