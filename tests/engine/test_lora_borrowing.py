"""Adapters in idle blocks of the KV cache: the whole core on a CPU, real weights, and the answers of a roomy one."""

import shutil
from pathlib import Path

import pytest
import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.core import adapter_memory
from kindling_engine.core.options import CoreOptions
from kindling_engine.kvcache.arena import Arena
from kindling_engine.kvcache.manager import KvManager
from kindling_engine.llm import LLM, SamplingParams
from kindling_engine.lora.loading import LoaderThread
from kindling_engine.protocol.ipc import (
    AdapterChanged,
    AdapterList,
    AdapterState,
    ListAdapters,
    LoadAdapter,
    PinAdapter,
    Stats,
)
from kindling_tiny_models import adapter_make, model_make

PROMPT = list(range(5, 45))
SHAPE = {"num_key_value_heads": 4, "head_dim": 32}
"""A block of 48 KiB, which holds a matrix of rank 96."""


@pytest.fixture(autouse=True)
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in whose way does not depend on when a thread gets its turn."""
    monkeypatch.setattr(LoaderThread, "read", LoaderThread._settle)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """A model and adapters of nine blocks each, two of which fit into the smallest memory of their own there is."""
    folder = tmp_path_factory.mktemp("borrowing")
    model = model_make("llama", folder / "model", **SHAPE)
    for index in range(5):
        adapter_make(
            model, folder / "blobs" / f"a{index}", seed=index, r=96, target_modules=["q_proj", "v_proj"]
        )
    for index in range(5, 10):
        shutil.copytree(folder / "blobs" / f"a{index - 5}", folder / "blobs" / f"a{index}")
    adapter_make(model, folder / "blobs" / "wide", seed=9, r=112, target_modules=["q_proj", "v_proj"])
    return model, folder / "blobs"


def _tight(world: tuple[Path, Path], **options) -> Rig:
    options.setdefault("kv_tokens", 1024)
    return rig_make(*world, lora_mib=1, **options)


def _states(rig: Rig) -> dict[str, AdapterState]:
    rig.turn(ListAdapters("s"))
    return {state.adapter: state for state in rig.answers(AdapterList)[-1].items}


def _stats(rig: Rig) -> Stats:
    rig.clock_s += 2
    rig.turn()
    return rig.answers(Stats)[-1]


def _served(rig: Rig, names: list[str], *, more: tuple[str, ...] = ()) -> dict[str, list[int]]:
    """Answers on adapters and the base; ``more`` are requests of the base in the middle of it."""
    for name in names:
        rig.submit(name, [*PROMPT, int(name[1:])], adapter=name, max_tokens=40)
    rig.submit("base", PROMPT, max_tokens=40)
    rig.wait(lambda: all(len(rig.tokens(name)) > 5 or rig.end(name) for name in names))
    for index, name in enumerate(more):
        rig.submit(name, [7 + index] * 250, max_tokens=30)
    rig.run_until("base", *names, *more)
    return {name: rig.tokens(name) for name in (*names, "base", *more)}


def test_adapters_without_room_of_their_own_borrow_and_say_the_same(world):
    names = [f"a{index}" for index in range(5)]
    rig, roomy = _tight(world), rig_make(*world)
    for name in names:
        # Long enough that the first is still under way when the last adapter has arrived.
        rig.submit(f"first-{name}", PROMPT, adapter=name, max_tokens=60)
    rig.wait(lambda: all(rig.tokens(f"first-{name}") for name in names))
    states = _states(rig)
    borrowed = [name for name in names if states[name].borrowed_blocks]
    assert len(borrowed) == 3 and {states[name].borrowed_blocks for name in borrowed} == {9}
    assert all(states[name].tier == "host" and states[name].in_use for name in names)
    stats = _stats(rig)
    assert stats.lent_blocks == 27 and stats.blocks_borrowed == 27 and stats.blocks_recalled == 0
    rig.run_until(*(f"first-{name}" for name in names))
    assert _served(rig, names) == _served(roomy, names)
    assert rig.core._desk.stepped_back == 0, "there was room for all of them at once"


def test_blocks_come_back_when_requests_need_them_and_answers_stay_exact(world):
    names = [f"a{index}" for index in range(5)]
    rig, roomy = _tight(world), rig_make(*world)
    found = _served(rig, names, more=("long0", "long1"))
    stats = _stats(rig)
    assert stats.blocks_recalled > 0 and stats.adapter_steps_back > 0 and stats.preemptions == 0
    assert found == _served(roomy, names, more=("long0", "long1"))
    kv = rig.core._parts.kv
    assert kv.make_free(kv.pool.capacity) and kv.loans.lent == 0
    assert all(not state.borrowed_blocks for state in _states(rig).values())


def test_a_share_of_nothing_lends_nothing(world):
    rig = _tight(world, lora_borrow=0)
    _served(rig, ["a0", "a1", "a2"])
    stats = _stats(rig)
    assert stats.blocks_borrowed == 0 and stats.adapter_steps_back > 0


def test_more_adapters_than_may_borrow_take_turns(world):
    names = [f"a{index}" for index in range(10)]
    rig, roomy = _tight(world, lora_borrow=20), rig_make(*world)
    assert _served(rig, names) == _served(roomy, names)
    stats = _stats(rig)
    assert stats.blocks_borrowed > 9 and stats.adapter_steps_back > 0
    assert rig.core._parts.kv.loans.limit == 12 and stats.lent_blocks <= 12


def test_a_matrix_larger_than_a_block_waits_for_room_of_its_own(world):
    rig = _tight(world)
    for name in ("a0", "a1"):
        rig.submit(name, PROMPT, adapter=name, max_tokens=60)
    rig.wait(lambda: all(rig.tokens(name) for name in ("a0", "a1")))
    rig.submit("wide", PROMPT, adapter="wide", max_tokens=4)
    rig.run_until("wide", "a0", "a1")
    assert rig.core._parts.kv.loans.borrowed in {0, 9}, "only one that stepped back for it may have borrowed"
    assert rig.end("wide").finish == "length" and rig.core._desk.stepped_back > 0


def test_a_pinned_one_in_borrowed_blocks_goes_when_requests_need_them(world):
    rig = _tight(world)
    for name in ("a0", "a1", "a2"):
        rig.turn(LoadAdapter(f"l-{name}", name, ""), PinAdapter(f"p-{name}", name, True))
        rig.wait(lambda name=name: _states(rig)[name].state == "ready")
        rig.turn(PinAdapter(f"p-{name}", name, True))
    assert rig.answers(AdapterChanged)[-1].found
    states = _states(rig)
    assert [states[name].borrowed_blocks for name in ("a0", "a1", "a2")] == [0, 0, 9]
    for index in range(4):
        rig.submit(f"r{index}", [9 + index] * 240, max_tokens=8)
    rig.run_until(*(f"r{index}" for index in range(4)))
    assert {name for name, state in _states(rig).items() if state.pinned} == {"a0", "a1"}


@pytest.mark.parametrize(
    ("device", "gib", "unfit", "lends"),
    [("cuda", 100, 0, True), ("cpu", 40, 0, True), ("cpu", 64, 0, False), ("cuda", 100, 8, False)],
)
def test_how_much_a_cache_may_have_to_lend(device, gib, unfit, lends, monkeypatch, caplog):
    """All there is, but for what a CPU's sums cannot tell apart; and nothing is withheld without a word."""

    def arena(*, own_bytes: int, block_bytes: int, num_blocks: int, device: torch.device) -> Arena:
        size = own_bytes + block_bytes * num_blocks
        return Arena(torch.empty(size, dtype=torch.uint8, device="meta"), own_bytes, block_bytes)

    monkeypatch.setattr(adapter_memory, "arena_make", arena)
    nowhere = Path()
    lender = adapter_memory._Lender(
        KvManager(num_blocks=1024, revision="", kv_dtype=""),
        CoreOptions(socket=nowhere, model=nowhere, model_ref="", blobs=nowhere),
        (gib << 20) + unfit,
        torch.device(device),
    )
    lending = lender()
    assert (lending is not None) == lends == (lender.kv_memory is not None)
    assert ("borrow nothing of the KV cache" in caplog.text) != lends


def test_offline_adapters_of_earlier_runs_give_their_blocks_back(world):
    model, blobs = world
    llm = LLM(model, threads=1, kv_tokens=1024, max_batch=4, lora_mib=1, speculation="off")
    params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    for index in range(5):
        llm.generate([PROMPT], params, adapter=blobs / f"a{index}")
    loans = llm._parts.kv.loans
    assert loans.lent > 0
    wide = [[7 + row] * (llm.context_length - 8) for row in range(2)]
    assert [len(one.token_ids) for one in llm.generate(wide, params)] == [4, 4]
    assert loans.recalled > 0
