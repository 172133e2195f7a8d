"""Blocks of each request: reuse of known prefixes, growth, publication and return."""

from collections.abc import Sequence

from kindling_engine.kvcache.loans import BlockLoans
from kindling_engine.kvcache.pool import BlockPool
from kindling_engine.kvcache.prefix import Prefix, chain_next, chain_seed
from kindling_engine.kvcache.states import NO_MOVES, PrefixStates, StateMoves, TextStates, text_states

PAGE_SIZE = 16


class BlockTable:
    """The blocks of one request, in order of position, and the hash chain over its full ones."""

    __slots__ = ("blocks", "chain", "published", "seed", "states")

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.chain: list[bytes] = []
        """Hashes of its blocks as far as they were asked for; its tokens never change, there only come more."""
        self.published = 0
        self.blocks: list[int] = []
        self.states = TextStates()

    def hash_of(self, index: int, tokens: Sequence[int]) -> bytes:
        """The hash of a full block."""
        while len(self.chain) <= index:
            start = len(self.chain) * PAGE_SIZE
            before = self.chain[-1] if self.chain else self.seed
            self.chain.append(chain_next(before, tokens[start : start + PAGE_SIZE]))
        return self.chain[index]


class KvManager:
    """Hands out blocks of ``PAGE_SIZE`` tokens; only full blocks are shared, so nobody writes to a shared
    one.
    """

    def __init__(
        self,
        *,
        num_blocks: int,
        revision: str,
        kv_dtype: str,
        rotary_limit: int | None = None,
        shares: bool = True,
        state_slots: int = 0,
    ) -> None:
        """``rotary_limit``: keys of a prompt longer than this depend on its length. Without ``shares`` no prefix is
        found again, as more than keys and values would have to be known of it; with ``state_slots`` those are that a
        state was kept of, in so many slots.
        """
        self.pool = BlockPool(num_blocks)
        self.loans = BlockLoans(self.pool)
        self._revision = revision
        self._kv_dtype = kv_dtype
        self._rotary_limit = rotary_limit
        self._shares = shares or state_slots > 0
        self.states = PrefixStates(state_slots, self.pool.knows) if state_slots else None
        self._scrub: dict[int, None] = {}

    def table_new(self, *, adapter: str, salt: str, prompt_len: int = 0) -> BlockTable:
        """A table without blocks, for a request whose prompt has ``prompt_len`` tokens."""
        if self._rotary_limit is not None and prompt_len > self._rotary_limit:
            salt = f"{salt}\0{prompt_len}"
        return BlockTable(
            chain_seed(revision=self._revision, adapter=adapter, salt=salt, kv_dtype=self._kv_dtype)
        )

    def prefix_find(self, table: BlockTable, tokens: Sequence[int]) -> Prefix:
        """The longest prefix of ``tokens`` that is cached.

        The last token is always left over: its logits are needed, and they are not in the cache.
        """
        full = (len(tokens) - 1) // PAGE_SIZE if self._shares else 0
        blocks: list[int] = []
        for index in range(full):
            block = self.pool.lookup(table.hash_of(index, tokens))
            if block is None:
                break
            blocks.append(block)
        known = len(blocks)
        if self.states is None:
            missed = table.chain[known : known + 1] if known < full else ()
            return Prefix(blocks, missed, missed)
        if full:
            table.hash_of(full - 1, tokens)
        begun = self.states.deepest(table.chain[:known])
        states = text_states(begun=begun, known=known, length=full)
        promised = [table.chain[border - 1] for border in states.borders]
        return Prefix(blocks[:begun], table.chain[begun:full], promised, states)

    def prefix_take(self, table: BlockTable, prefix: Prefix) -> int:
        """Start an empty table with what was found and return the number of tokens that it holds."""
        for block in prefix.blocks:
            self.pool.share(block)
        table.blocks.extend(prefix.blocks)
        table.published = len(prefix.blocks)
        if self.states is not None and prefix.states is not None:
            table.states = prefix.states
            self.states.begin(table.states, table.chain)
        return len(prefix.blocks) * PAGE_SIZE

    def state_moves(self, table: BlockTable, start: int, stop: int, *, running: int) -> StateMoves:
        """What is to be done with states in a step over tokens ``start`` to ``stop``, while so many requests run."""
        if self.states is None:
            return NO_MOVES
        borders = range(start // PAGE_SIZE + 1, stop // PAGE_SIZE + 1)
        begins = start == table.states.begun * PAGE_SIZE
        kept = self.states.keeps(table.states, borders, running=running)
        return StateMoves(
            table.states.source if begins else None,
            tuple((border * PAGE_SIZE, slot) for border, slot in kept),
        )

    @property
    def state_counts(self) -> tuple[int, int]:
        """States of prefixes that are known, and slots for them."""
        return (0, 0) if self.states is None else (self.states.slots.known, self.states.slots.capacity)

    def blocks_missing(self, table: BlockTable, num_tokens: int) -> int:
        return max(0, -(-num_tokens // PAGE_SIZE) - len(table.blocks))

    def grow(self, table: BlockTable, num_tokens: int) -> bool:
        """Make room for ``num_tokens`` tokens in all; on False nothing has changed."""
        missing = self.blocks_missing(table, num_tokens)
        if missing == 0:
            return True
        if not self.make_free(missing):
            return False
        table.blocks.extend(self.pool.allocate(missing) or ())
        return True

    def make_free(self, count: int) -> bool:
        """Whether so many blocks are free, when what is lent and not in use has come back as far as need be."""
        lacking = count - self.pool.free_count
        if lacking > 0:
            self.loans.recall(lacking)
        return count <= self.pool.free_count

    def lend(self, count: int, *, cached: bool = False) -> list[int] | None:
        """Blocks for something that is no K and V, as ``BlockLoans`` allows; its owner writes all that it reads."""
        blocks = self.loans.take(count, cached=cached)
        for block in blocks or ():
            # It is no longer ours to write to; it is zeroed when it comes back.
            self._scrub.pop(block, None)
        return blocks

    def take_back(self, blocks: list[int]) -> None:
        """The end of a loan: what was left there may read as NaN, so it is zeroed before reuse."""
        self.loans.give_back(blocks)
        self._scrub.update(dict.fromkeys(blocks))

    def publish(self, table: BlockTable, tokens: Sequence[int], computed: int) -> None:
        """Make the full blocks among the first ``computed`` tokens findable by others."""
        while self._shares and (table.published + 1) * PAGE_SIZE <= computed:
            self.pool.publish(table.blocks[table.published], table.hash_of(table.published, tokens))
            table.published += 1
        if self.states is not None:
            self.states.publish(table.states, table.published, table.chain)

    def free(self, table: BlockTable, *, suspect: bool = False) -> None:
        """Give a table's blocks back.

        ``suspect`` marks content that may hold NaN: it leaves the prefix index and is zeroed before reuse,
        since a masked position still multiplies its value by zero, and 0 × NaN would reach the next owner.
        """
        if self.states is not None:
            self.states.end(table.states, suspect=suspect)
        if suspect:
            for block in table.blocks:
                self._forget(block)
        freed = self.pool.release(table.blocks)
        if suspect:
            self._scrub.update(dict.fromkeys(freed))
        table.blocks = []
        table.published = 0
        table.states = TextStates()

    def scrub_take(self) -> tuple[int, ...]:
        """Blocks to zero before the next step writes anything."""
        scrub, self._scrub = tuple(self._scrub), {}
        return scrub

    def _forget(self, block: int) -> None:
        block_hash = self.pool.forget(block)
        if self.states is not None and block_hash is not None:
            self.states.slots.forget(block_hash)
