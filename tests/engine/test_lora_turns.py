"""Turns: nobody who wants an adapter waits for ever, whatever others want; and which adapter goes first."""

import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.core.adapters import AdapterDesk
from kindling_engine.core.turns import TURN_STEPS
from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.cache import AdapterCache
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.policy import Worth
from kindling_engine.scheduler.plan import StepPlan
from kindling_engine.scheduler.request import Request
from kindling_late_runner import Late
from kindling_schedules import Pretended

SIZES = {"a": 2, "b": 3, "c": 5, "d": 8, "e": 8, "f": 1, "g": 4}  # "x" does not load
BUDGET = 10


class World:
    """A desk before a scheduler with a pretended model; every load has ended when a turn begins."""

    def __init__(self, make: type[Pretended]) -> None:
        self.pretended = make(num_blocks=60, max_batch=4)
        self._ended = threading.Semaphore(0)
        self.cache = AdapterCache(budget_bytes=BUDGET, load=self._load, wake=self._ended.release)
        parts = SimpleNamespace(
            adapters=self.cache,
            scheduler=self.pretended.scheduler,
            device=torch.device("cpu"),
            config=SimpleNamespace(vocab_size=100),
            kv=self.pretended.kv,
        )
        self.desk = AdapterDesk(parts, blobs=Path("blobs"), send=lambda message: None, admit=self._admit)
        note = self.pretended.note
        self.pretended.note = lambda outcome: self._note(note, outcome)
        self.rows: Counter[str] = Counter()

    def submit(self, name: str, adapter: str, tokens: int) -> None:
        request = Request(name, [1, 2, len(name)], max_tokens=tokens, grant=tokens, adapter=adapter)
        if not adapter:
            self._admit(request, self.pretended.now_s)
            return
        self.pretended.note(self.desk.submit(request, self.pretended.now_s))

    def turn(self) -> StepPlan | None:
        while self.cache._loading:
            assert self._ended.acquire(timeout=60)
            for outcome in self.desk.poll(self.pretended.now_s):
                self.pretended.note(outcome)
        for outcome in self.desk.poll(self.pretended.now_s):
            self.pretended.note(outcome)
        plan = self.pretended.step()
        if plan is not None:
            here = {row.request.adapter for row in plan.rows if row.request.adapter}
            ready = {name for name, state, *_ in self.cache.states() if state == "ready"}
            assert here <= ready, "a step uses an adapter that is not in memory"
            assert sum(SIZES[name] for name in ready) <= BUDGET
        return plan

    def _admit(self, request: Request, now_s: float) -> None:
        self.pretended.add(request)

    def _note(self, note, outcome) -> None:
        if outcome is not None and outcome.finish:
            self.desk.release(outcome.request)
        note(outcome)

    def _load(self, folder: Path) -> LoadedAdapter:
        if folder.name not in SIZES:
            raise AdapterError("files", "not there")
        return LoadedAdapter(AdapterWeights((), SIZES[folder.name], 1), ())


arrivals = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([*SIZES, "x", ""]), st.integers(1, 30)),
    min_size=1,
    max_size=14,
)


@pytest.mark.parametrize("make", [Pretended, Late])
@settings(max_examples=40, deadline=None)
@given(arrivals)
def test_every_request_ends_within_turns(make, wanted):
    world = World(make)
    for index, (pause, adapter, tokens) in enumerate(wanted):
        for _ in range(pause):
            world.turn()
        world.submit(f"r{index}", adapter, tokens)
    # Every token in a step of its own, and a whole turn of everybody between any two turns of a request.
    bound = sum(tokens + 2 for *_, tokens in wanted) + len(wanted) * (TURN_STEPS + 4) + 40
    for _ in range(bound):
        if len(world.pretended.ended) == len(wanted):
            break
        world.turn()
    ended = world.pretended.ended
    assert len(ended) == len(wanted), "somebody waits for ever"
    for index, (_, adapter, tokens) in enumerate(wanted):
        finish = ended[f"r{index}"].finish
        assert finish == ("error" if adapter == "x" else "length")
        if adapter != "x":
            assert len(world.pretended.made[f"r{index}"]) == tokens
    assert sum(pins for *_, pins in world.cache.states()) == 0
    assert world.pretended.kv.pool.free_count == world.pretended.kv.pool.capacity


def test_a_cold_adapter_holds_hot_ones_up_by_no_step():
    world = World(Pretended)
    world.submit("hot", "a", 30)
    while world.turn() is None:
        pass
    world.submit("cold", "b", 3)
    for _ in range(10):
        plan = world.turn()
        assert "hot" in {row.request.id for row in plan.rows}, "a step went without the hot one"
    assert len(world.pretended.made["cold"]) == 3


def test_a_stream_of_hot_requests_does_not_keep_a_cold_adapter_out():
    world = World(Pretended)
    world.submit("hot0", "d", 30)
    for index in range(1, 4):
        world.turn()
        world.submit(f"hot{index}", "d", 30)
    world.submit("cold", "e", 2)
    for index in range(2 * TURN_STEPS + 6):
        world.turn()
        world.submit(f"more{index}", "d", 5)
    assert world.pretended.ended["cold"].finish == "length"


def test_what_is_used_often_and_small_stays_and_old_glory_fades():
    worth = Worth()
    mib = 1 << 20
    for name, size, uses in (("large", 64 * mib, 3), ("small", mib, 3), ("rare", mib, 1)):
        for _ in range(uses):
            worth.used(name, size)
    assert worth.cheapest_first(["small", "large", "rare"]) == ["rare", "large", "small"]
    for index in range(8):
        worth.used(f"new{index}", mib)
        worth.evicted(f"new{index}")
    worth.used("fresh", mib)
    assert worth.cheapest_first(["small", "fresh"]) == ["small", "fresh"]
