"""Many registered adapters: nothing is known of one before it is asked for, and little of those that went."""

import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kindling_engine.lora.batch import AdapterWeights
from kindling_engine.lora.cache import AdapterCache
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.lora.stores import HostStore
from kindling_engine.protocol.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from kindling_engine.protocol.findings import Finding
from kindling_parity import adapters_settled
from kindling_slabs import weights_make

SHAPES = (SiteShape(16, 0, (16,)),)
MOST_BYTES = 200_000_000
AT_ONCE = 64


def _loaded() -> LoadedAdapter:
    findings = tuple(
        Finding("values", "pass", f"Something was looked at, number {index}.") for index in range(8)
    )
    return LoadedAdapter(weights_make(SHAPES, ((2,),), seed=1), findings)


class QuickStore(HostStore):
    """Packs one adapter and gives its slab to all that follow, each with what was noticed about it."""

    def ready(self, loaded: LoadedAdapter) -> LoadedAdapter:
        if not hasattr(self, "_first"):
            self._first = super().ready(loaded)
        return replace(self._first, findings=_loaded().findings)


@pytest.mark.parametrize(
    "count", [1_000, pytest.param(100_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)
def test_memory_does_not_grow_with_those_that_were_once_asked_for(count, tmp_path: Path):
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        (tmp_path / name).write_bytes(b"x")
    store, read = QuickStore(SHAPES, budget_bytes=64 << 20), _loaded()
    woken = threading.Event()
    cache = AdapterCache(
        budget_bytes=64 << 20,
        load=lambda folder: read,
        wake=woken.set,
        store=store,
        scratch=SlabScratch(tmp_path, budget_bytes=1 << 30),
    )
    tracemalloc.start()
    try:
        stop = time.monotonic() + 600
        for first in range(0, count, AT_ONCE):
            names = [f"{index:064x}" for index in range(first, min(first + AT_ONCE, count))]
            open_ = {name for name in names if not cache.acquire(name, tmp_path, name, 0.0)}
            while open_:
                assert time.monotonic() < stop
                woken.wait(0.1)
                woken.clear()
                for settled in cache.poll(0.0):
                    assert settled.error is None
                    open_.discard(settled.ticket)
            for name in names:
                cache.release(name)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.loads == count
    assert held < min(MOST_BYTES, 12_000 * count)
    assert sum(1 for _ in cache.places()) <= store.slabs.num_slots


def test_a_start_looks_at_no_adapter(tmp_path: Path):
    """A folder that cannot be listed is as good as any."""
    reads = []
    store = HostStore(SHAPES, budget_bytes=1 << 20)
    AdapterCache(budget_bytes=1 << 20, load=reads.append, wake=lambda: None, store=store)
    scratch = SlabScratch(tmp_path / "nowhere", budget_bytes=1 << 20)
    assert reads == [] and len(scratch) == 0


def test_small_adapters_run_out_of_slots_before_memory_and_make_room():
    store = HostStore(SHAPES, budget_bytes=1 << 20)
    cache = AdapterCache(budget_bytes=1 << 20, load=lambda folder: _loaded(), wake=lambda: None, store=store)
    for index in range(3 * store.slabs.num_slots):
        if not cache.acquire(str(index), Path(str(index)), index, 0.0):
            adapters_settled(cache)
        weights = cache.weights(str(index))
        assert isinstance(weights, AdapterWeights) and torch.isfinite(weights.sites[0].shrink).all()
        cache.release(str(index))
    assert cache.evictions == 2 * store.slabs.num_slots
