"""Blocks of each request: reuse of known prefixes, growth, publication and return."""

from collections.abc import Sequence

from kindling_engine.kvcache.loans import BlockLoans
from kindling_engine.kvcache.pool import BlockPool
from kindling_engine.kvcache.prefix import chain_next, chain_seed

PAGE_SIZE = 16


class BlockTable:
    """The blocks of one request, in order of position, and the hash chain over its full ones."""

    __slots__ = ("blocks", "published", "seed", "tip")

    def __init__(self, seed: bytes) -> None:
        self.seed = seed
        self.tip = seed
        self.published = 0
        self.blocks: list[int] = []


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
    ) -> None:
        """``rotary_limit``: keys of a prompt longer than this depend on its length. Without ``shares`` no prefix is
        found again: more than keys and values would have to be known of it.
        """
        self.pool = BlockPool(num_blocks)
        self.loans = BlockLoans(self.pool)
        self._revision = revision
        self._kv_dtype = kv_dtype
        self._rotary_limit = rotary_limit
        self._shares = shares
        self._scrub: dict[int, None] = {}

    def table_new(self, *, adapter: str, salt: str, prompt_len: int = 0) -> BlockTable:
        """A table without blocks, for a request whose prompt has ``prompt_len`` tokens."""
        if self._rotary_limit is not None and prompt_len > self._rotary_limit:
            salt = f"{salt}\0{prompt_len}"
        return BlockTable(
            chain_seed(revision=self._revision, adapter=adapter, salt=salt, kv_dtype=self._kv_dtype)
        )

    def prefix_find(
        self, table: BlockTable, tokens: Sequence[int]
    ) -> tuple[list[tuple[int, bytes]], bytes | None]:
        """Known blocks, with their hashes, for the longest cached prefix of ``tokens``, and the first hash
        missed.

        The last token is always left over: its logits are needed, and they are not in the cache. The missed
        hash is None when every full block is known.
        """
        found: list[tuple[int, bytes]] = []
        if not self._shares:
            return found, None
        tip = table.seed
        for start in range(0, (len(tokens) - 1) // PAGE_SIZE * PAGE_SIZE, PAGE_SIZE):
            tip = chain_next(tip, tokens[start : start + PAGE_SIZE])
            block = self.pool.lookup(tip)
            if block is None:
                return found, tip
            found.append((block, tip))
        return found, None

    def prefix_take(self, table: BlockTable, found: list[tuple[int, bytes]]) -> int:
        """Start an empty table with found blocks and return the number of tokens they hold."""
        for block, block_hash in found:
            self.pool.share(block)
            table.blocks.append(block)
            table.tip = block_hash
        table.published = len(found)
        return len(found) * PAGE_SIZE

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
            start = table.published * PAGE_SIZE
            table.tip = chain_next(table.tip, tokens[start : start + PAGE_SIZE])
            self.pool.publish(table.blocks[table.published], table.tip)
            table.published += 1

    def free(self, table: BlockTable, *, suspect: bool = False) -> None:
        """Give a table's blocks back.

        ``suspect`` marks content that may hold NaN: it leaves the prefix index and is zeroed before reuse,
        since a masked position still multiplies its value by zero, and 0 × NaN would reach the next owner.
        """
        if suspect:
            for block in table.blocks:
                self.pool.forget(block)
        freed = self.pool.release(table.blocks)
        if suspect:
            self._scrub.update(dict.fromkeys(freed))
        table.blocks = []
        table.published = 0
        table.tip = table.seed

    def scrub_take(self) -> tuple[int, ...]:
        """Blocks to zero before the next step writes anything."""
        scrub, self._scrub = tuple(self._scrub), {}
        return scrub
