"""Adapters in the compiled call give what they give layer by layer, and a step of the base has nothing of them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kindling_decodes import decodes_make
from kindling_engine.jit import program as program_module
from kindling_engine.jit.adapters import adapter_kernel
from kindling_engine.jit.operations import ADAPT
from kindling_engine.jit.rows import row_kernels
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.batch import LoraBatch, LoraGroup
from kindling_engine.lora.host import HostLoraBatch
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.seated import SeatedLora, SeatedLoraBatch
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.lora.stores import HostStore, host_store
from kindling_engine.models.base import StepInputs
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.registry import model_load
from kindling_slabs import weights_make
from kindling_tiny_models import model_make

CPU = torch.device("cpu")
SHAPES = (
    SiteShape(24, 0, (64, 16, 16)),
    SiteShape(41, 8, (24,)),
    SiteShape(0, 0, ()),
    SiteShape(130, 0, (72, 72)),
)
RANKS = {
    "query and value": ((8, 0, 8), (), (), ()),
    "all": ((4, 3, 9), (17,), (), (8, 1)),
    "high": ((256, 256, 256), (100,), (), (70, 0)),
}
BLOCKS = 40
MODEL = {
    "hidden_size": 64,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}
pytestmark = pytest.mark.skipif(row_kernels() is None, reason="no code is made for this processor")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def placed(store: HostStore, shapes, ranks, seed: int):
    """An adapter as it was made, and in the pool."""
    made = weights_make(shapes, ranks, seed=seed)
    return made, store.place(store.ready(LoadedAdapter(made, ())))


@pytest.mark.parametrize("kinds", [["all"], ["high", "all", "query and value"], ["query and value"] * 7])
def test_every_row_gets_its_own_adapters_share(kinds: list[str]):
    kernel = adapter_kernel()
    assert kernel is not None
    store = HostStore(SHAPES, budget_bytes=32 << 20)
    made, seated = zip(*(placed(store, SHAPES, RANKS[kind], i) for i, kind in enumerate(kinds)), strict=True)
    spans = [((2 * i, 2 * i + 1), (20 + i, 21 + i)) for i in range(len(kinds))]
    lora = SeatedLora(store.slabs.tables.pool, SHAPES)
    batch = lora(tuple(LoraGroup(one, each) for one, each in zip(spans, seated, strict=True)))
    plain = LoraBatch(tuple(LoraGroup(one, each) for one, each in zip(spans, made, strict=True)))
    rows = batch.seated(30)
    assert rows is not None and batch.seated(30) is rows, "steady decode finds them again"
    for site, shape in enumerate(SHAPES):
        if not shape.widths:
            continue
        x = torch.randn(30, shape.in_features, generator=torch.Generator().manual_seed(site))
        found = torch.ones(30, shape.start + sum(shape.widths))
        expected, by_site = found.clone(), found.clone()
        kernel.add(found, x, rows, site)
        plain.add(expected, x, site)
        batch.add(by_site, x, site)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(by_site, expected, rtol=1e-4, atol=1e-4)


def test_a_row_that_moves_or_an_adapter_that_does_is_found_anew():
    store = HostStore(SHAPES, budget_bytes=8 << 20)
    (_, one), (_, two) = (placed(store, SHAPES, RANKS["all"], seed) for seed in range(2))
    lora = SeatedLora(store.slabs.tables.pool, SHAPES)
    first = lora((LoraGroup(((0, 1),), one),)).seated(2)
    assert lora((LoraGroup(((1, 2),), one),)).seated(2) is not first
    assert lora((LoraGroup(((0, 1),), two),)).seated(2) is not first
    store.remove(one)
    _, again = placed(store, SHAPES, RANKS["all"], 5)
    assert lora((LoraGroup(((0, 1),), again),)).seated(2) is not first


class World:
    """A tiny model with full pages, and adapters in a pool."""

    def __init__(self, name: str, folder: Path) -> None:
        model = model_load(model_make(name, folder, **MODEL), device=CPU, dtype=torch.float32)
        assert isinstance(model, Decoder)
        self.model, config = model, model.config
        storage = KvStorage(
            num_layers=config.num_layers_kv,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            num_blocks=BLOCKS,
            dtype=torch.float32,
            device=CPU,
        )
        storage._blocks.copy_(torch.randn(storage._blocks.shape, generator=torch.Generator().manual_seed(0)))
        self._pages_per_block = storage.pages_per_block
        model.bind(storage)
        store = host_store(model.lora, budget_bytes=16 << 20, dtype=torch.float32)
        assert store is not None
        self.store, shapes = store, store.slabs.shapes
        self.lora = SeatedLora(store.slabs.tables.pool, shapes)
        ranks = [
            [
                [8 * (seed + 1) if site % 3 != seed % 3 else 0 for _ in shape.widths]
                for site, shape in enumerate(shapes)
            ]
            for seed in range(3)
        ]
        self.made = [placed(store, shapes, one, seed) for seed, one in enumerate(ranks)]

    def inputs(self, lengths: list[int], lora: LoraBatch | None) -> StepInputs:
        tokens = torch.arange(3, 3 + len(lengths)) % 60
        attention = decodes_make(lengths, BLOCKS, pages_per_block=self._pages_per_block)
        return StepInputs(tokens, torch.tensor(lengths) - 1, attention, None, lora)

    def by_layers(self, inputs: StepInputs) -> torch.Tensor:
        program, self.model._program = self.model._program, None
        try:
            return self.model.hidden(inputs)
        finally:
            self.model._program = program


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
@torch.inference_mode()
def test_the_whole_step_is_that_of_the_layers(name: str, threads: int, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("kindling_engine.jit.program._ALONE_BELOW", 0)
    torch.set_num_threads(threads)
    world = World(name, tmp_path)
    taken = []
    made = program_module.LayerProgram._made

    def watched(program, sites, *, ends):
        taken.extend([1] * (sites is not None))
        return made(program, sites, ends=ends)

    monkeypatch.setattr(program_module.LayerProgram, "_made", watched)
    for lengths, places in (([5], [0]), ([1, 16, 17, 33], [0, 2, 3]), ([7] * 20, [1, 4, 19])):
        groups = [(((at, at + 1),), index) for index, at in enumerate(places)]
        seated = world.lora(tuple(LoraGroup(spans, world.made[index][1]) for spans, index in groups))
        plain = LoraBatch(tuple(LoraGroup(spans, world.made[index][0]) for spans, index in groups))
        found = world.model.hidden(world.inputs(lengths, seated)).clone()
        wanted = world.by_layers(world.inputs(lengths, plain))
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
        base = world.by_layers(world.inputs(lengths, None))
        others = [row for row in range(len(lengths)) if row not in places]
        assert torch.equal(found[others], base[others]), "rows of the base have their own bits"
        assert not torch.allclose(found[places], base[places], atol=1e-3)
    assert len(taken) == 3


@torch.inference_mode()
def test_a_step_of_the_base_has_no_operation_of_adapters(tmp_path: Path):
    world = World("llama", tmp_path)
    kinds = []
    made = program_module._Made.__init__

    def watched(self, operations, kept=None):
        kinds.append([one.kind for one in operations])
        made(self, operations, kept)

    program_module._Made.__init__ = watched
    try:
        before = world.model.hidden(world.inputs([5, 9], None)).clone()
        assert len(kinds) == 1 and ADAPT not in kinds[0]
        world.model.hidden(world.inputs([5, 9], world.lora((LoraGroup(((0, 1),), world.made[0][1]),))))
        assert kinds[1].count(ADAPT) == 4 * world.model.config.num_layers
        assert torch.equal(world.model.hidden(world.inputs([5, 9], None)), before)
    finally:
        program_module._Made.__init__ = made
    assert len(kinds) == 2


@torch.inference_mode()
def test_an_adapter_that_lies_elsewhere_sends_the_step_through_the_layers(tmp_path: Path):
    world = World("llama", tmp_path)
    made, seated = world.made[0]
    loose = replace(made, seat=None)
    batch = world.lora((LoraGroup(((0, 1),), loose), LoraGroup(((1, 2),), seated)))
    assert not isinstance(batch, SeatedLoraBatch) and batch.seated(2) is None
    found = world.model.hidden(world.inputs([5, 9], batch))
    plain = LoraBatch((LoraGroup(((0, 2),), made),))
    torch.testing.assert_close(found, world.by_layers(world.inputs([5, 9], plain)), rtol=1e-3, atol=1e-4)


def test_many_rows_of_a_mixed_step_go_in_bags_when_a_site_asks():
    store = HostStore(SHAPES, budget_bytes=8 << 20)
    made = [placed(store, SHAPES, RANKS["query and value"], seed)[1] for seed in range(6)]
    lora = SeatedLora(store.slabs.tables.pool, SHAPES)
    batch = lora(tuple(LoraGroup(((i, i + 1),), one) for i, one in enumerate(made)))
    batch.add(torch.ones(6, 96), torch.ones(6, 24), 0)
    assert isinstance(batch, SeatedLoraBatch) and isinstance(batch._plain[0], HostLoraBatch)
