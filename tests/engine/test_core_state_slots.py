"""States of prefixes: which are kept, which leave, and that none leaves while it is read."""

import pytest

from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.kvcache.state_slots import StateSlots
from kindling_engine.kvcache.states import text_states


def _fill(kv: KvManager, tokens: list[int], *, answer: int = 0, running: int = 1):
    """A table of a text that was computed at once, and its answer token by token; and how much of it was known."""
    table = kv.table_new(adapter="", salt="")
    cached = kv.prefix_take(table, kv.prefix_find(table, tokens))
    spoken = [*tokens, *range(1000, 1000 + answer)]
    assert kv.grow(table, len(spoken))
    for start, stop in [(cached, len(tokens)), *((at, at + 1) for at in range(len(tokens), len(spoken)))]:
        kv.state_moves(table, start, stop, running=running)
        kv.publish(table, spoken, stop)
    return table, cached


def _manager(slots: int = 8) -> KvManager:
    return KvManager(num_blocks=64, revision="r", kv_dtype="f", state_slots=slots)


def _slots_filled(saves: dict[bytes, int]) -> StateSlots:
    slots = StateSlots(len(saves), lambda _: True)
    for name, count in saves.items():
        assert slots.publish(name, slots.take(), count)
    return slots


def test_what_saves_least_leaves_first_and_in_the_end_what_nobody_asks_for():
    slots = _slots_filled({b"long": 9, b"short": 2, b"asked": 2})
    for index in range(8):
        slots.read_end(slots.read(b"asked"))
        name = b"%d" % index
        slots.publish(name, slots.take(), 2)
        assert slots.knows(b"asked")
        assert not slots.knows(b"short")
        assert slots.knows(b"long") == (index < 4), index


def test_a_state_that_is_read_stays_until_it_has_been():
    slots = _slots_filled({b"a": 1, b"b": 5})
    slot = slots.read(b"a")
    other = slots.take()
    assert other is not None and other != slot and slots.knows(b"a") and not slots.knows(b"b")
    slots.forget(b"a")
    assert not slots.knows(b"a") and slots.take() is None
    slots.read_end(slot)
    assert slots.take() == slot


def test_the_same_state_is_kept_once():
    slots = StateSlots(2, lambda _: True)
    assert slots.publish(b"a", slots.take(), 1)
    assert not slots.publish(b"a", slots.take(), 1)
    assert slots.known == slots.free_count == 1


@pytest.mark.parametrize(
    ("begun", "known", "length", "borders", "answer"),
    [
        (0, 0, 2, (), 3),
        (0, 0, 3, (2,), 4),
        (0, 0, 64, (63,), 65),
        (0, 0, 70, (64, 69), 71),
        (64, 64, 70, (69,), 71),
        (0, 40, 70, (40, 64, 69), 71),
        (0, 63, 70, (63, 69), 71),
        (0, 69, 69, (64, 68), 70),
        (20, 22, 23, (22,), 24),
        (20, 20, 21, (), 22),
        (21, 21, 21, (), 23),
    ],
)
def test_where_states_are_kept(begun: int, known: int, length: int, borders: tuple[int, ...], answer: int):
    found = text_states(begun=begun, known=known, length=length)
    assert (found.borders, found.answer) == (borders, answer)


def test_a_prefix_is_known_as_far_as_its_blocks_and_its_state():
    kv = _manager()
    tokens = list(range(100))
    first, cached = _fill(kv, tokens)
    assert cached == 0 and kv.prefix_find(first, tokens).blocks == first.blocks[:5]
    kv.free(first)
    assert _fill(kv, tokens)[1] == 5 * PAGE_SIZE
    kv.pool.forget(kv.prefix_find(first, tokens).blocks[2])
    assert _fill(kv, tokens)[1] == 0


def test_a_state_without_its_block_leaves_first():
    kv = _manager(slots=2)
    for first, count in ((0, 900), (1000, 60)):
        kv.free(_fill(kv, list(range(first, first + count)))[0])
    taken = kv.pool.allocate(7)  # four that nobody knows, and the tail of the long one
    assert taken is not None
    gone = kv.table_new(adapter="", salt="")
    assert not kv.prefix_find(gone, list(range(900))).blocks
    kv.pool.release(taken)
    _fill(kv, list(range(2000, 2060)))
    assert kv.states.slots.knows(kv.table_new(adapter="", salt="").hash_of(1, list(range(1000, 1060))))


def test_an_answer_keeps_its_last_state_alone_and_none_where_slots_are_few():
    kv = _manager()
    tokens = list(range(60))
    table, _ = _fill(kv, tokens, answer=60)
    assert kv.states.slots.known == 2
    spoken = [*tokens, *range(1000, 1060)]
    assert len(kv.prefix_find(table, [*spoken, 7]).blocks) == 7
    assert len(kv.prefix_find(kv.table_new(adapter="", salt=""), spoken[:80]).blocks) == 2
    few = _manager()
    _fill(few, tokens, answer=60, running=3)
    assert few.states.slots.known == 1


def test_states_of_a_suspect_request_are_forgotten_those_that_it_went_on_from_too():
    kv = _manager()
    tokens = list(range(100))
    kv.free(_fill(kv, tokens)[0])
    table, cached = _fill(kv, [*tokens, *range(200, 262)])
    assert cached == 5 * PAGE_SIZE and kv.states.slots.known == 2
    kv.free(table, suspect=True)
    assert kv.states.slots.known == 0 and kv.states.slots.free_count == 8
    assert _fill(kv, tokens)[1] == 0
