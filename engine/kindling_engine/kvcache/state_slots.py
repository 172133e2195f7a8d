"""Slots for states of texts' beginnings: which state is in which, and which leaves for a new one.

Bookkeeping only; the tensors belong to the model. A state is known by the hash of the blocks that it stands behind, so
only those find it who may see these. All states are of one size and save different numbers of blocks, so what leaves
is chosen by GreedyDual (N. Young, "The k-server dual and loose competitiveness for paging", 1994): the one of least
credit, which is what it saves, on top of the credit of the last that left. One whose block has left goes before all.
"""

from collections import Counter
from collections.abc import Callable


class StateSlots:
    """``capacity`` slots, each free, being written by a request, or known by a hash and perhaps being read."""

    def __init__(self, capacity: int, has_block: Callable[[bytes], bool]) -> None:
        """``has_block``: whether the block behind which a state stands is known."""
        self.capacity = capacity
        self._has_block = has_block
        self._free = list(range(capacity - 1, -1, -1))
        self._slot_of: dict[bytes, int] = {}
        self._saves: dict[bytes, int] = {}
        self._credit: dict[bytes, int] = {}
        self._left_at = 0
        self._readers: Counter[int] = Counter()
        self._forgotten: set[int] = set()
        """Slots that nobody finds any more, and somebody still reads."""

    @property
    def known(self) -> int:
        """States that can be found."""
        return len(self._slot_of)

    @property
    def free_count(self) -> int:
        return len(self._free)

    def knows(self, block_hash: bytes) -> bool:
        return block_hash in self._slot_of

    def read(self, block_hash: bytes) -> int:
        """The slot of a known state, which stays as it is until ``read_end``."""
        slot = self._slot_of.pop(block_hash)
        self._slot_of[block_hash] = slot
        self._credit[block_hash] = self._left_at + self._saves[block_hash]
        self._readers[slot] += 1
        return slot

    def read_end(self, slot: int) -> None:
        self._readers[slot] -= 1
        if not self._readers[slot]:
            del self._readers[slot]
            if slot in self._forgotten:
                self._forgotten.discard(slot)
                self._free.append(slot)

    def take(self) -> int | None:
        """A slot to write a new state to; None while all are being written or read."""
        if not self._free:
            idle = [one for one, slot in self._slot_of.items() if slot not in self._readers]
            if not idle:
                return None
            leaving = next((one for one in idle if not self._has_block(one)), None)
            if leaving is None:
                leaving = min(idle, key=self._credit.__getitem__)
                self._left_at = self._credit[leaving]
            self.forget(leaving)
        return self._free.pop()

    def give_back(self, slot: int) -> None:
        """A slot that was taken, and not published."""
        self._free.append(slot)

    def publish(self, block_hash: bytes, slot: int, saves: int) -> bool:
        """Make a state that was written findable; False where the same one is known already, from another slot."""
        if block_hash in self._slot_of:
            self.give_back(slot)
            return False
        self._slot_of[block_hash] = slot
        self._saves[block_hash] = saves
        self._credit[block_hash] = self._left_at + saves
        return True

    def forget(self, block_hash: bytes) -> None:
        """Nobody finds this state from now on, if it was known."""
        slot = self._slot_of.pop(block_hash, None)
        if slot is None:
            return
        del self._saves[block_hash], self._credit[block_hash]
        if slot in self._readers:
            self._forgotten.add(slot)
        else:
            self._free.append(slot)
