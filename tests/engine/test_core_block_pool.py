"""Block pool and block tables: allocation, sharing, LRU eviction."""

import pytest

from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.kvcache.pool import NULL_BLOCK, BlockPool
from kindling_engine.kvcache.prefix import chain_next, chain_seed


def _manager(num_blocks: int = 9) -> KvManager:
    return KvManager(num_blocks=num_blocks, revision="r", kv_dtype="float32")


def _fill(kv: KvManager, tokens: list[int], *, adapter: str = "", salt: str = ""):
    table = kv.table_new(adapter=adapter, salt=salt)
    cached = kv.prefix_take(table, kv.prefix_find(table, tokens))
    assert kv.grow(table, len(tokens))
    kv.publish(table, tokens, len(tokens))
    return table, cached


def test_allocates_all_or_nothing_and_never_the_null_block():
    pool = BlockPool(5)
    assert pool.allocate(5) is None
    taken = pool.allocate(4)
    assert sorted(taken) == [1, 2, 3, 4] and NULL_BLOCK not in taken
    assert pool.allocate(1) is None
    assert pool.release(taken) == taken[::-1]
    assert pool.free_count == 4


def test_releasing_twice_is_refused():
    pool = BlockPool(3)
    taken = pool.allocate(1)
    pool.release(taken)
    with pytest.raises(RuntimeError, match="more often"):
        pool.release(taken)


def test_a_released_prefix_is_found_again_and_shared():
    kv = _manager()
    tokens = list(range(40))
    first, cached = _fill(kv, tokens)
    assert cached == 0
    kept = first.blocks[:2]
    kv.free(first)
    second, cached = _fill(kv, tokens)
    third, also = _fill(kv, tokens)
    assert cached == also == 2 * PAGE_SIZE
    assert second.blocks[:2] == third.blocks[:2] == kept
    assert second.blocks[2] != third.blocks[2]
    assert kv.pool.refs(kept[0]) == 2


def test_the_last_token_is_never_cached():
    kv = _manager()
    tokens = list(range(32))
    table, _ = _fill(kv, tokens)
    kv.free(table)
    assert _fill(kv, tokens)[1] == PAGE_SIZE


def test_the_least_recently_released_prefix_goes_first_and_its_tail_before_its_head():
    kv = _manager(num_blocks=5)
    old, _ = _fill(kv, list(range(100, 133)))
    kv.free(old)
    new, _ = _fill(kv, list(range(200, 217)))
    kv.free(new)
    taken = kv.pool.allocate(2)  # the new prompt's unfinished block, then the old prefix's tail
    assert taken is not None
    assert len(kv.prefix_find(kv.table_new(adapter="", salt=""), list(range(100, 133))).blocks) == 1
    assert len(kv.prefix_find(kv.table_new(adapter="", salt=""), list(range(200, 217))).blocks) == 1


@pytest.mark.parametrize("other", [{"adapter": "b"}, {"salt": "t"}])
def test_adapter_and_salt_separate_prefixes(other: dict[str, str]):
    kv = _manager()
    tokens = list(range(33))
    table, _ = _fill(kv, tokens)
    kv.free(table)
    assert _fill(kv, tokens, **other)[1] == 0
    assert _fill(kv, tokens)[1] == 32


def test_seed_fields_cannot_run_into_each_other():
    one = chain_seed(revision="a", adapter="bc", salt="", kv_dtype="x")
    two = chain_seed(revision="ab", adapter="c", salt="", kv_dtype="x")
    assert one != two
    assert chain_next(one, [1, 2]) != chain_next(one, [1, 3])


def test_suspect_blocks_leave_the_index_and_are_scrubbed_once():
    kv = _manager()
    tokens = list(range(40))
    table, _ = _fill(kv, tokens)
    blocks = list(table.blocks)
    kv.free(table, suspect=True)
    assert sorted(kv.scrub_take()) == sorted(blocks)
    assert kv.scrub_take() == ()
    assert _fill(kv, tokens)[1] == 0


def test_only_idle_blocks_are_lent_empty_ones_first_and_an_eighth_stays_free():
    kv = _manager(17)
    kv.loans.limit = 12
    table, _ = _fill(kv, list(range(4 * PAGE_SIZE)))
    kv.free(table)
    assert kv.loans.room() == 12
    assert kv.lend(13) is None
    empty = kv.lend(10)
    assert len(empty) == 10 and not set(empty) & {1, 2, 3, 4}, "prefixes stay while there are empty blocks"
    assert kv.lend(3, cached=True) is None, "that is more than may be lent"
    kv.loans.limit = 16
    assert kv.lend(3) is None
    assert len(kv.lend(3, cached=True)) == 3 and kv.loans.room() == 1
    kv.take_back(empty)
    with pytest.raises(RuntimeError, match="had not been lent"):
        kv.take_back(empty[:1])
    assert set(empty) <= set(kv.scrub_take())


def test_a_block_that_waited_to_be_zeroed_is_not_when_it_is_lent():
    kv = _manager(9)
    kv.loans.limit = 8
    table, _ = _fill(kv, list(range(40)))
    kv.free(table, suspect=True)
    lent = kv.lend(7)
    assert not set(kv.scrub_take()) & set(lent)


def test_nothing_is_lent_while_somebody_lacks_blocks():
    kv = _manager(9)
    kv.loans.limit = 8
    table, _ = _fill(kv, list(range(4 * PAGE_SIZE)))
    assert not kv.grow(table, 9 * PAGE_SIZE)
    assert kv.loans.room() == 0 and kv.lend(1) is None
    kv.loans.step_begins()
    assert kv.loans.room() == 3
