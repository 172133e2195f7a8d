"""Blocks lent to adapters: over any schedule they have one owner, come back before a request loses its own, and starve
nobody.
"""

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.core.adapters import AdapterDesk
from kindling_engine.core.turns import TURN_STEPS
from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.cache import AdapterCache
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.stores import LooseStore
from kindling_engine.scheduler.plan import StepPlan
from kindling_engine.scheduler.request import Request
from kindling_late_runner import Late
from kindling_schedules import Pretended

SIZES = {"a": 2, "b": 3, "c": 5, "d": 8, "e": 8, "f": 1, "g": 4}
BUDGET = 10
BLOCKS = 24


class Borrowing(LooseStore):
    """Adapters of as many blocks as they have bytes of their own part."""

    def __init__(self, kv: KvManager) -> None:
        self.kv = kv
        self.lent: dict[int, list[int]] = {}
        self._made = 0

    def borrow(self, loaded: LoadedAdapter, *, cached: bool) -> AdapterWeights | None:
        blocks = self.kv.lend(loaded.weights.size_bytes, cached=cached)
        if blocks is None:
            return None
        self._made += 1
        self.lent[self._made] = blocks
        return replace(loaded.weights, slot=self._made, borrowed_blocks=len(blocks))

    def may_borrow(self) -> bool:
        return self.kv.loans.room() > 0

    def remove(self, weights: AdapterWeights) -> None:
        if weights.slot is not None:
            self.kv.take_back(self.lent.pop(weights.slot))

    @property
    def blocks(self) -> list[int]:
        return [block for blocks in self.lent.values() for block in blocks]


class World:
    """A desk before a scheduler with a pretended model and little memory; every load has ended when a turn begins."""

    def __init__(self, make: type[Pretended], *, share: float = 0.5) -> None:
        self.pretended = make(
            num_blocks=BLOCKS, max_batch=4, context_length=BLOCKS * PAGE_SIZE, step_tokens=64
        )
        self.kv = self.pretended.kv
        self.kv.loans.limit = int(share * self.kv.pool.capacity)
        self.store = Borrowing(self.kv)
        self._ended = threading.Semaphore(0)
        self.cache = AdapterCache(
            budget_bytes=BUDGET, load=self._load, wake=self._ended.release, store=self.store
        )
        parts = SimpleNamespace(
            adapters=self.cache,
            scheduler=self.pretended.scheduler,
            device=torch.device("cpu"),
            config=SimpleNamespace(vocab_size=100),
            kv=self.kv,
        )
        self.desk = AdapterDesk(parts, blobs=Path("blobs"), send=lambda message: None, admit=self._admit)
        note = self.pretended.note
        self.pretended.note = lambda outcome: self._note(note, outcome)
        scheduler = self.pretended.scheduler
        self._plan, self._preempt, self._way = scheduler.plan, scheduler._preempt, scheduler._make_way
        scheduler.plan, scheduler._preempt = self._planned, self._preempted
        scheduler._make_way = self._made_way
        self._coming: Request | None = None
        self.most_lent = 0

    def submit(self, name: str, adapter: str, prompt: int, tokens: int) -> None:
        # One block's worth may be found in the cache, and the rest is a request's own.
        ids = [7] * min(prompt, PAGE_SIZE) + [(len(name) + ord(name[-1])) % 40] * (prompt - PAGE_SIZE)
        request = Request(name, ids, max_tokens=tokens, grant=tokens, adapter=adapter)
        if not adapter:
            self._admit(request, self.pretended.now_s)
            return
        self.pretended.note(self.desk.submit(request, self.pretended.now_s))

    def turn(self) -> StepPlan | None:
        while self.cache._loading:
            assert self._ended.acquire(timeout=60)
            self._poll()
        self._poll()
        return self.pretended.step()

    def turns_until_ended(self, count: int, bound: int) -> None:
        for _ in range(bound):
            if len(self.pretended.ended) == count:
                return
            self.turn()
        raise AssertionError("somebody waits for ever")

    def assert_all_comes_back(self) -> None:
        """When nobody needs an adapter, every block can be had."""
        assert sum(pins for *_, pins in self.cache.states()) == 0
        assert self.kv.make_free(self.kv.pool.capacity)
        assert self.store.lent == {} and self.kv.loans.lent == 0
        self.pretended.assert_nothing_is_held()

    def _poll(self) -> None:
        for outcome in self.desk.poll(self.pretended.now_s):
            self.pretended.note(outcome)

    def _planned(self, now_s: float) -> StepPlan | None:
        scheduler = self.pretended.scheduler
        plan = self._plan(now_s)
        lent = self.store.blocks
        self.most_lent = max(self.most_lent, len(lent))
        assert len(lent) == len(set(lent)) == self.kv.loans.lent <= self.kv.loans.limit
        assert all(self.kv.pool.refs(block) == 1 for block in lent), "a lent block has no owner, or two"
        held = Counter(
            block for one in scheduler._requests.values() if one.table for block in one.table.blocks
        )
        assert not held.keys() & set(lent), "a block is lent and used"
        if plan is None:
            return None
        assert not set(plan.scrub) & set(lent), "what is lent would be zeroed"
        ready = {name: pins for name, state, _, pins in self.cache.states() if state == "ready"}
        assert all(ready.get(row.request.adapter, 0) for row in plan.rows if row.request.adapter)
        own = [name for name in ready if not self.cache.borrowed_blocks(name)]
        assert sum(SIZES[name] for name in own) <= BUDGET
        return plan

    def _preempted(self, victim: Request, rows) -> None:
        """Nobody loses a block while a loan has not been called back; seats are another matter."""
        coming, free = self._coming, self.kv.pool.free_count
        if coming is None or self.kv.blocks_missing(coming.table, len(coming.tokens)) > free:
            borrowers = set(self.cache.borrowers())
            idle = self.kv.loans.lent - sum(map(self.cache.borrowed_blocks, borrowers))
            assert not idle and borrowers <= self.desk._users._leaving
        self._preempt(victim, rows)

    def _made_way(self, request: Request, rows) -> bool:
        self._coming = request
        try:
            return self._way(request, rows)
        finally:
            self._coming = None

    def _admit(self, request: Request, now_s: float) -> None:
        self.pretended.add(request)

    def _note(self, note, outcome) -> None:
        if outcome is not None and outcome.finish:
            self.desk.release(outcome.request)
        note(outcome)

    def _load(self, folder: Path) -> LoadedAdapter:
        return LoadedAdapter(AdapterWeights((), SIZES[folder.name], 1), ())


arrivals = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([*SIZES, "", ""]), st.integers(1, 150), st.integers(1, 30)),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("make", [Pretended, Late])
@settings(max_examples=60, deadline=None)
@given(arrivals, st.sampled_from([0.25, 0.5, 1.0]))
def test_blocks_have_one_owner_come_back_in_time_and_starve_nobody(make, wanted, share):
    world = World(make, share=share)
    for index, (pause, adapter, prompt, tokens) in enumerate(wanted):
        for _ in range(pause):
            world.turn()
        world.submit(f"r{index}", adapter, prompt, tokens)
    # As without loans, each request's turn once more for the loan that it had to give back.
    bound = sum(2 * tokens + prompt // 8 + 4 for *_, prompt, tokens in wanted)
    bound += 2 * len(wanted) * (TURN_STEPS + 4) + 80
    world.turns_until_ended(len(wanted), bound)
    for index, (_, _, _, tokens) in enumerate(wanted):
        assert world.pretended.ended[f"r{index}"].finish == "length"
        assert len(world.pretended.made[f"r{index}"]) == tokens
    world.assert_all_comes_back()


def test_adapters_that_find_no_room_of_their_own_run_at_once_where_the_cache_is_idle():
    world = World(Pretended)
    for name in "deab":
        world.submit(name, name, 10, 20)
    world.turns_until_ended(4, 24)
    assert world.most_lent >= 8 + 2 and world.desk.stepped_back == 0
    world.assert_all_comes_back()


@pytest.mark.parametrize("make", [Pretended, Late])
def test_a_request_that_needs_lent_blocks_gets_them_and_nobody_is_preempted(make):
    world = World(make)
    for name in "dea":
        world.submit(name, name, 10, 200)
    for _ in range(4):
        world.turn()
    assert world.kv.loans.lent > 0
    assert world.kv.pool.free_count < 15
    world.submit("whole", "", 15 * PAGE_SIZE - 4, 4)
    world.turns_until_ended(1, 60)
    assert world.pretended.ended["whole"].finish == "length" and world.desk.stepped_back > 0
    assert world.kv.loans.recalled > 0 and world.pretended.scheduler.preemptions == 0
    for name in "dea":
        world.pretended.cancel(name)
    world.turn()
    world.assert_all_comes_back()


def test_a_request_whose_own_adapter_lies_in_the_blocks_that_it_needs_ends():
    world = World(Pretended, share=1.0)
    world.submit("own", "d", 10, 200)
    world.turn()
    world.submit("long", "e", (BLOCKS - 1) * PAGE_SIZE - 40, 30)
    world.turns_until_ended(2, 600)
    assert {one.finish for one in world.pretended.ended.values()} == {"length"}
    world.assert_all_comes_back()


def test_nothing_is_lent_while_a_request_waits_for_blocks():
    world = World(Pretended)
    for name in ("one", "two"):
        world.submit(name, "", 11 * PAGE_SIZE, 8)
    world.submit("three", "", 11 * PAGE_SIZE, 8)
    for _ in range(10):
        world.turn()
        if world.kv.loans.wanted:
            break
    assert world.kv.loans.wanted and world.kv.loans.room() == 0
    world.turns_until_ended(3, 60)
    world.submit("d", "d", 4, 4)
    world.turns_until_ended(4, 20)
    world.assert_all_comes_back()
