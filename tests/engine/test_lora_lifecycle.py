"""Adapters come, are replaced, stay and go while others run; where room is short they take turns."""

import shutil
from pathlib import Path

import pytest

from kindling_core_rig import Rig, rig_make
from kindling_engine.lora.loading import LoaderThread
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.protocol.ipc import (
    AdapterChanged,
    AdapterList,
    AdapterState,
    Cancel,
    ListAdapters,
    LoadAdapter,
    PinAdapter,
    Stats,
    UnloadAdapter,
)
from kindling_tiny_models import adapter_make, model_make

PROMPT = list(range(5, 45))
MANY = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> tuple[Path, Path]:
    """A model and adapters of about 0.4 MB, two of which fit into the smallest memory there is."""
    folder = tmp_path_factory.mktemp("lifecycle")
    model = model_make("llama", folder / "model")
    first = adapter_make(
        model, folder / "blobs" / "a0", r=160, lora_alpha=160, target_modules=["q_proj", "v_proj"]
    )
    for index in range(1, MANY):
        shutil.copytree(first, folder / "blobs" / f"a{index}")
    adapter_make(
        model, folder / "blobs" / "v2", seed=9, r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]
    )
    (folder / "blobs" / "broken").mkdir()
    return model, folder / "blobs"


def _states(rig: Rig) -> dict[str, AdapterState]:
    rig.turn(ListAdapters("s"))
    return {state.adapter: state for state in rig.answers(AdapterList)[-1].items}


def _load(rig: Rig, *names: str) -> None:
    for name in names:
        rig.turn(LoadAdapter(f"l-{name}", name, ""))
    rig.wait(lambda: all(_states(rig).get(name) and _states(rig)[name].state == "ready" for name in names))


def test_a_new_version_takes_over_while_requests_on_the_old_one_finish(world):
    model, blobs = world
    rig = rig_make(model, blobs)
    _load(rig, "v2")  # else the old one's tokens race the loader's thread
    rig.submit("old", PROMPT, adapter="a0", max_tokens=30)
    rig.wait(lambda: len(rig.tokens("old")) > 3)
    rig.submit("new", PROMPT, adapter="v2", max_tokens=8)
    rig.turn(UnloadAdapter("u", "a0"))
    assert rig.answers(AdapterChanged)[-1].found
    rig.run_until("new")
    assert rig.end("old") is None, "the old version still answers"
    assert rig.end("new").cached_tokens == 0, "no version meets the cache of another"
    rig.run_until("old")
    assert len(rig.tokens("old")) == 30
    assert set(_states(rig)) == {"v2"}
    again = rig_make(model, blobs)
    for name, adapter in (("old", "a0"), ("new", "v2")):
        again.submit(name, PROMPT, adapter=adapter, max_tokens=len(rig.tokens(name)))
        again.run_until(name)
        assert again.tokens(name) == rig.tokens(name)


def test_a_request_knows_whether_its_adapter_was_there(world):
    model, blobs = world
    rig = rig_make(model, blobs)
    for name, adapter in (("cold", "a0"), ("hot", "a0"), ("base", "")):
        rig.submit(name, PROMPT, adapter=adapter, max_tokens=3)
        rig.run_until(name)
    waited = {name: {item.adapter_ms for item in rig.items() if item.id == name} for name in ("hot", "base")}
    assert waited == {"hot": {0.0}, "base": {-1.0}}
    cold = rig.end("cold")
    assert 0 < cold.adapter_ms <= cold.queue_ms


def test_one_that_fails_says_why_and_harms_nobody(world):
    model, blobs = world
    rig = rig_make(model, blobs)
    rig.submit("good", PROMPT, adapter="a0", max_tokens=12)
    rig.submit("bad", PROMPT, adapter="broken", max_tokens=12)
    rig.run_until("good", "bad")
    assert rig.end("bad").error_code == "adapter_load_failed" and rig.end("good").finish == "length"
    state = _states(rig)["broken"]
    assert (state.state, state.tier, state.in_use) == ("failed", "disk", 0)
    assert state.reason == rig.end("bad").error


def test_a_pinned_one_stays_and_an_unloaded_one_goes(world):
    model, blobs = world
    rig = rig_make(model, blobs, lora_mib=1, lora_borrow=0)
    _load(rig, "a0")
    rig.turn(PinAdapter("p", "a0", True), PinAdapter("p", "nowhere", True))
    assert [answer.found for answer in rig.answers(AdapterChanged)] == [True, False]
    for index in range(1, 5):
        rig.submit(f"r{index}", PROMPT, adapter=f"a{index}", max_tokens=2)
        rig.run_until(f"r{index}")
        assert "a0" in _states(rig)
    assert _states(rig)["a0"].pinned
    rig.turn(UnloadAdapter("u", "a0"))
    assert "a0" not in _states(rig)


def test_more_adapters_than_room_take_turns_and_say_the_same(world, monkeypatch: pytest.MonkeyPatch):
    model, blobs = world
    # Who is in whose way does not depend on when a thread gets its turn.
    monkeypatch.setattr(LoaderThread, "read", LoaderThread._settle)
    tight, roomy = rig_make(model, blobs, lora_mib=1, lora_borrow=0), rig_make(model, blobs)
    names = [f"a{index}" for index in range(MANY)]
    for rig in (tight, roomy):
        for name in names:
            rig.submit(name, [*PROMPT, int(name[1:])], adapter=name, max_tokens=40)
        rig.submit("base", PROMPT, max_tokens=40)
        rig.run_until("base", *names)
    assert all(tight.tokens(name) == roomy.tokens(name) for name in (*names, "base"))
    tight.clock_s += 2
    tight.turn()
    stats = tight.answers(Stats)[-1]
    assert stats.adapter_steps_back > 0 and stats.adapter_evictions >= MANY - 2
    assert roomy.core._desk.stepped_back == 0
    assert all(state.in_use == 0 for state in _states(tight).values())


def test_one_that_stepped_back_can_be_cancelled(world):
    model, blobs = world
    rig = rig_make(model, blobs, lora_mib=1, lora_borrow=0)
    names = [f"a{index}" for index in range(6)]
    for name in names:
        rig.submit(name, PROMPT, adapter=name, max_tokens=200)
    rig.wait(lambda: bool(rig.core._desk._held))
    held = next(iter(rig.core._desk._held))
    rig.turn(Cancel(held))
    assert rig.end(held).finish == "cancelled"
    rig.turn(*(Cancel(name) for name in names if name != held))
    rig.wait(lambda: all(rig.end(name) for name in names))
    assert not rig.core._scheduler.has_work and not rig.core._desk._held
    assert all(state.in_use == 0 for state in _states(rig).values())
    pool = rig.core._parts.kv.pool
    assert pool.free_count == pool.capacity


def test_what_was_read_once_is_read_from_scratch_until_the_files_change(world, tmp_path):
    model, blobs = world
    shutil.copytree(blobs / "a0", tmp_path / "b0")
    rig = rig_make(model, tmp_path, lora_mib=4)
    cache = rig.core._parts.adapters
    reads = []
    loader = cache._loader
    load = loader._load
    loader._load = lambda folder: (reads.append(folder.name), load(folder))[1]
    for change in (False, False, True):
        if change:
            shutil.copytree(blobs / "v2", tmp_path / "b0", dirs_exist_ok=True)
        _load(rig, "b0")
        cache.clear()
    assert reads == ["b0", "b0"]


def test_scratch_makes_room_and_survives_a_folder_that_is_not_there(world, tmp_path):
    model, blobs = world
    cache = rig_make(model, blobs).core._parts.adapters
    loaded = cache._store.ready(cache._loader._load(blobs / "a0"))
    size = loaded.packed.slab.numel()
    scratch = SlabScratch(tmp_path, budget_bytes=2 * size + (128 << 10))
    for name in ("a0", "a1", "a2"):
        scratch.put(name, blobs / name, loaded)
    assert len(scratch) == 2
    found = scratch.get("a2", blobs / "a2", pinned=False)
    assert found.packed.slab.equal(loaded.packed.slab) and found.weights.rank == loaded.weights.rank
    nowhere = SlabScratch(tmp_path / "missing", budget_bytes=1 << 30)
    nowhere.put("a0", blobs / "a0", loaded)
    assert nowhere.get("a0", blobs / "a0", pinned=False) is None
