"""The adapter cache: budget, pins, eviction, failures, and order among those who wait."""

import gc
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.cache import AdapterCache, Settled
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.shelf import HostShelf
from kindling_engine.lora.slab_layout import PackedAdapter


class Shelf:
    """Adapters of given sizes; a load of a held name waits until it is let go."""

    def __init__(self, budget_bytes: int, *, host_bytes: int = 0, **sizes: int) -> None:
        self.sizes = sizes
        self.loads: list[str] = []
        self.gates: dict[str, threading.Event] = {}
        self.ended = threading.Semaphore(0)
        self.cache = AdapterCache(
            budget_bytes=budget_bytes, load=self._load, wake=self.ended.release, host_bytes=host_bytes
        )

    def acquire(self, name: str, ticket: object, now_s: float = 0.0) -> bool:
        return self.cache.acquire(name, Path(name), ticket, now_s)

    def settle(self, now_s: float = 0.0) -> list[Settled]:
        """Wait for one load to end, then poll."""
        assert self.ended.acquire(timeout=60)
        return self.cache.poll(now_s)

    def catch_up(self, now_s: float) -> list[Settled]:
        """Poll until no load is under way that could settle anything."""
        settled = self.cache.poll(now_s)
        while self.cache._loading:
            assert self.ended.acquire(timeout=60)
            settled += self.cache.poll(now_s)
        return settled

    def ready(self) -> list[str]:
        return [name for name, state, _loaded, _pins in self.cache.states() if state == "ready"]

    def _load(self, folder: Path) -> LoadedAdapter:
        name = folder.name
        self.loads.append(name)
        if name in self.gates:
            assert self.gates[name].wait(60)
        if name not in self.sizes:
            raise AdapterError("files", "not there")
        return LoadedAdapter(AdapterWeights((), self.sizes[name], 1), ())


def test_loads_once_for_all_who_wait_and_is_there_at_once_afterwards():
    shelf = Shelf(100, a=10)
    assert not shelf.acquire("a", "t1") and not shelf.acquire("a", "t2")
    assert [settled.ticket for settled in shelf.settle()] == ["t1", "t2"]
    assert shelf.acquire("a", "t3")
    assert shelf.loads == ["a"]
    assert shelf.cache.states()[0][3] == 3


def test_the_thread_that_reads_ends_with_its_cache():
    others = set(threading.enumerate())
    shelf = Shelf(100, a=10)
    shelf.acquire("a", "t1")
    assert len(shelf.settle()) == 1
    (reader,) = set(threading.enumerate()) - others
    del shelf
    gc.collect()
    reader.join(60)
    assert not reader.is_alive()


def test_the_least_recently_used_goes_when_the_budget_is_full():
    shelf = Shelf(25, a=10, b=10, c=10)
    for name in "ab":
        shelf.acquire(name, name)
        shelf.settle()
        shelf.cache.release(name)
    assert shelf.acquire("a", "again")
    shelf.cache.release("a")
    shelf.acquire("c", "c")
    shelf.settle()
    assert shelf.ready() == ["a", "c"]


def test_what_is_in_use_is_never_evicted():
    shelf = Shelf(15, a=10, b=10)
    shelf.acquire("a", "a")
    shelf.settle()
    shelf.acquire("b", "b")
    assert shelf.settle() == [], "it is read, and waits for room"
    assert shelf.ready() == ["a"] and shelf.cache.lacks_room == 10
    shelf.cache.release("a")
    assert [settled.ticket for settled in shelf.cache.poll(0.0)] == ["b"]
    assert shelf.ready() == ["b"] and not shelf.cache.lacks_room


def test_a_failure_reaches_those_who_asked_for_it_and_nobody_else():
    shelf = Shelf(100, good=1)
    shelf.acquire("bad", "t1")
    shelf.acquire("good", "t2")
    failed, settled = sorted(shelf.settle() + shelf.settle(), key=lambda one: one.ticket)
    assert (failed.ticket, failed.error.code) == ("t1", "files")
    assert (settled.ticket, settled.error) == ("t2", None)


def test_a_slow_load_holds_up_nobody_whose_adapter_is_there():
    shelf = Shelf(100, hot=1, cold=1)
    shelf.acquire("hot", "t0")
    shelf.settle()
    shelf.gates["cold"] = threading.Event()
    shelf.acquire("cold", "t1", 0.0)
    assert shelf.acquire("hot", "t2", 60.0)
    assert shelf.cache.poll(60.0) == []
    shelf.gates["cold"].set()
    assert [settled.ticket for settled in shelf.settle(60.0)] == ["t1"]


def test_those_that_are_to_stay_keep_nobody_out_for_ever():
    shelf = Shelf(100, a=40, b=40, small=20, large=40)
    for name in ("a", "b"):
        shelf.acquire(name, name)
        shelf.settle()
        shelf.cache.release(name)
        assert shelf.cache.keep(name, True)
    # One that fits beside them takes its turn there.
    shelf.acquire("small", "small")
    assert [one.ticket for one in shelf.settle()] == ["small"]
    assert shelf.ready() == ["a", "b", "small"]
    shelf.cache.release("small")
    # One that never would has one of theirs, and they come back.
    shelf.acquire("large", "large")
    assert [one.ticket for one in shelf.settle()] == ["large"]
    assert "large" in shelf.ready() and len(shelf.ready()) == 2
    shelf.cache.release("large")
    for name in ("a", "b"):
        assert shelf.acquire(name, name, 60.0) or shelf.settle(60.0)
    assert shelf.ready() == ["a", "b"] or shelf.ready() == ["b", "a"]


def test_without_room_hot_adapters_cannot_keep_a_cold_one_out_for_ever():
    shelf = Shelf(10, hot=10, cold=10)
    shelf.acquire("hot", "t0")
    shelf.settle()
    assert not shelf.acquire("cold", "t1", 0.0)
    assert shelf.acquire("hot", "t2", 1.0), "for a moment the hot one goes on"
    assert not shelf.acquire("hot", "t3", 3.0), "then it queues behind the cold one"
    assert shelf.settle(3.0) == [], "it is read, and waits for room"
    shelf.cache.release("hot")
    shelf.cache.release("hot")
    assert [settled.ticket for settled in shelf.cache.poll(3.1)] == ["t1"]


def test_a_withdrawn_ticket_is_not_settled():
    shelf = Shelf(100, a=1)
    ticket = object()
    shelf.acquire("a", ticket)
    assert shelf.cache.withdraw(ticket) and not shelf.cache.withdraw(ticket)
    assert shelf.settle() == []


def test_what_is_unloaded_while_it_is_read_does_not_stay():
    shelf = Shelf(100, a=10, b=10)
    shelf.gates["a"] = threading.Event()
    assert not shelf.acquire("a", "t1")
    assert shelf.cache.withdraw("t1")
    assert shelf.cache.unload("a")
    shelf.gates["a"].set()
    assert shelf.settle() == []
    assert shelf.ready() == [] and list(shelf.cache.places()) == []
    assert not shelf.acquire("a", "t2")
    assert [settled.ticket for settled in shelf.settle()] == ["t2"]
    assert shelf.ready() == ["a"]


def test_who_waited_before_an_unload_is_served_and_then_it_goes():
    shelf = Shelf(100, host_bytes=100, a=10)
    shelf.gates["a"] = threading.Event()
    assert not shelf.acquire("a", "t1")
    assert shelf.cache.unload("a")
    shelf.gates["a"].set()
    assert [settled.ticket for settled in shelf.settle()] == ["t1"]
    assert shelf.ready() == ["a"]
    shelf.cache.release("a")
    assert shelf.ready() == [] and list(shelf.cache.places()) == []


def test_a_pin_released_twice_is_refused():
    shelf = Shelf(100, a=1)
    shelf.acquire("a", "t")
    shelf.settle()
    shelf.cache.release("a")
    with pytest.raises(RuntimeError, match="more often"):
        shelf.cache.release("a")


def test_weights_are_those_loaded():
    shelf = Shelf(100, a=7)
    shelf.acquire("a", "t")
    shelf.settle()
    assert shelf.cache.weights("a").size_bytes == 7
    assert torch.is_inference_mode_enabled() is False


steps = st.lists(
    st.tuples(st.sampled_from(["acquire", "release", "withdraw", "wait"]), st.integers(0, 5)), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(8, 30))
def test_over_random_use_nothing_pinned_is_lost_and_everybody_is_served(actions, budget_bytes):
    sizes = {"a": 2, "b": 3, "c": 5, "d": 8, "e": 8}  # "f" does not load
    shelf = Shelf(budget_bytes, **sizes)
    held: list[str] = []
    open_tickets: dict[int, str] = {}
    now_s = 0.0

    def settle() -> None:
        for settled in shelf.catch_up(now_s):
            name = open_tickets.pop(settled.ticket)
            assert name == settled.adapter and (settled.error is None) == (name in sizes)
            if settled.error is None:
                held.append(name)

    def check() -> None:
        assert set(held) <= set(shelf.ready()), "an adapter in use was evicted"
        used = sum(sizes[name] for name in shelf.ready())
        assert used <= budget_bytes

    for number, (action, index) in enumerate(actions):
        now_s += 0.5
        name = "abcdef"[index]
        if action == "acquire":
            if shelf.acquire(name, number, now_s):
                held.append(name)
            else:
                open_tickets[number] = name
        elif action == "release" and held:
            shelf.cache.release(held.pop(index % len(held)))
        elif action == "withdraw" and open_tickets:
            ticket = sorted(open_tickets)[index % len(open_tickets)]
            assert shelf.cache.withdraw(ticket)
            del open_tickets[ticket]
        settle()
        check()
    for _ in range(100):
        if not open_tickets and not held:
            break
        while held:
            shelf.cache.release(held.pop())
        now_s += 0.5
        settle()
        check()
    assert not open_tickets and not held
    assert sum(pins for *_rest, pins in shelf.cache.states()) == 0


@pytest.mark.parametrize(("pinned", "kept"), [(False, ["a", "b", "c"]), (True, ["b", "c"])])
def test_the_tier_in_host_memory_counts_what_slabs_take(pinned, kept):
    """In pinned memory that is a power of two."""
    shelf = HostShelf(2 << 20, pinned=pinned)
    for name in "abc":
        packed = PackedAdapter(torch.empty(0, dtype=torch.uint8), 1)
        shelf.put(name, LoadedAdapter(AdapterWeights((), 600 << 10, 1), (), packed))
    assert shelf.names() == kept
    for name in kept:
        shelf.drop(name)
    assert shelf._used_bytes == 0
