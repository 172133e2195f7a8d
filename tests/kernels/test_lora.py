"""Adapters of a step: segments, both products in every configuration, and the batch beside the grouped torch path."""

import pytest
import torch

from kindling_engine.kernels import lora_expand, lora_segment, lora_shrink
from kindling_engine.kernels.lora_segment import segments_make, segments_reference
from kindling_engine.kernels.tuning import error_of
from kindling_engine.lora.device import device_lora_batch
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_slabs import Shelf, shelf_make

TOLERANCE = {torch.float32: 2e-6, torch.float16: 3e-3, torch.bfloat16: 2e-2}
# Sites like those of a layer: three targets, one, two that begin within the output, and none.
# One width is cut into whole blocks, another is not, and one is less than a block.
SHAPES = (
    SiteShape(600, 0, (48, 16, 16)),
    SiteShape(512, 0, (40,)),
    SiteShape(24, 8, (72, 72)),
    SiteShape(0, 0, ()),
)
ADAPTERS = (
    ((3, 3, 3), (3,), (3, 3), ()),
    ((16, 0, 20), (1,), (), ()),
    ((0, 5, 0), (70,), (8, 0), ()),
)
# One, two and more tokens of an adapter, with base rows in between.
SLOTS = (-1, 2, 0, 2, -1, 2, 0, 1, 2, 2)
# Tokens of a tile, with each configuration that may meet them.
FEW, MANY = (lora_segment.block_for(rows) for rows in (64, 2048))


def _met(module):
    few, many = {*module.configs_for(64), *module.configs_for(256)}, module.configs_for(2048)
    pairs = [*((FEW, one) for one in module.CONFIGS if one in few), *((MANY, one) for one in many)]
    assert {config for _, config in pairs} == set(module.CONFIGS)
    return pytest.mark.parametrize(("block", "config"), pairs, ids=str)


def _slots(device, slots=SLOTS):
    return torch.tensor(slots, dtype=torch.int32, device=device)


def _randn(device, dtype, *size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(device=device, dtype=dtype)


def _width(shape: SiteShape) -> int:
    return shape.start + sum(shape.widths) + 5


@pytest.fixture(scope="module")
def shelves(device):
    """By dtype, made once."""
    made: dict[torch.dtype, Shelf] = {}

    def shelf(dtype: torch.dtype) -> Shelf:
        if dtype not in made:
            made[dtype] = shelf_make(SHAPES, ADAPTERS, dtype=dtype, device=device)
        return made[dtype]

    return shelf


@pytest.mark.parametrize("config", lora_segment.CONFIGS, ids=str)
@pytest.mark.parametrize("block", [2, 16])
@pytest.mark.parametrize(
    "slots",
    [SLOTS, (-1,) * 5, (4,), (7, 7, 7, 7, 7, 0), tuple(range(8)), tuple((i * 5) % 9 - 1 for i in range(40))],
    ids=["mixed", "base", "one", "lopsided", "all", "many"],
)
def test_segments(device, slots, block, config):
    found = segments_make(_slots(device, slots), block, num_slots=8, config=config)
    expected = segments_reference(_slots(device, slots), block, num_slots=8)
    assert torch.equal(found.order, expected.order)
    used = int((expected.tiles[:, 0] >= 0).sum())
    assert torch.equal(found.tiles[:used, :3], expected.tiles[:used, :3])
    assert found.tiles.shape == expected.tiles.shape and (found.tiles[used:, 0] == -1).all()


def test_tiles_are_no_more_than_the_adapters_that_are_there_can_need(device):
    slabs = DeviceSlabs(
        SHAPES, budget_bytes=1 << 20, num_slots=4096, dtype=torch.float32, device=torch.device(device)
    )
    slots = _slots(device, (7,) * 300 + (4000,) * 100 + (-1,) * 112)
    known, unknown = device_lora_batch(slots, slabs, (), 2).segments, device_lora_batch(slots, slabs).segments
    used = int((unknown.tiles[:, 0] >= 0).sum())
    assert used == 7 and torch.equal(known.tiles[:used, :3], unknown.tiles[:used, :3])
    assert known.tiles.shape[0] == 9 and unknown.tiles.shape[0] == 512


@_met(lora_shrink)
def test_shrink(device, dtype, block, config, shelves):
    tables = shelves(dtype).slabs.tables
    segments = segments_make(_slots(device), block, num_slots=3)
    site = 0 if dtype == torch.float32 else 1
    x = _randn(device, dtype, len(SLOTS), SHAPES[site].in_features)
    out = torch.zeros((config.tiles["PARTS"], len(SLOTS), tables.max_rank), device=device)
    lora_shrink.lora_shrink(x, segments, tables, site, SHAPES[site], config=config, out=out)
    expected = lora_shrink.lora_shrink_reference(x, segments, tables, site)
    assert error_of(out.sum(0), expected) <= TOLERANCE[torch.float32]


@_met(lora_expand)
def test_expand(device, dtype, block, config, shelves):
    tables = shelves(dtype).slabs.tables
    segments = segments_make(_slots(device), block, num_slots=3)
    x = _randn(device, dtype, len(SLOTS), SHAPES[0].in_features)
    shrunk = lora_shrink.lora_shrink_reference(x, segments, tables, 0)
    # What no adapter has a rank for is never read.
    owner = _slots(device)[segments.order.long()].long()
    ranks = tables.firsts[owner, 0, 3].where(owner >= 0, 0)
    written = torch.arange(tables.max_rank, device=device) < ranks[:, None]
    parts = torch.stack((0.25 * shrunk, 0.75 * shrunk)).where(written, torch.nan)
    output = _randn(device, dtype, len(SLOTS), _width(SHAPES[0]), seed=1)
    expected = lora_expand.lora_expand_reference(shrunk, segments, tables, 0, SHAPES[0], output)
    assert not torch.equal(output, expected)
    lora_expand.lora_expand(parts, segments, tables, 0, SHAPES[0], output, config=config)
    assert error_of(output, expected) <= TOLERANCE[dtype]


@pytest.mark.parametrize("site", [0, 2])
def test_a_mixed_batch_is_the_grouped_ones(device, dtype, site, shelves):
    shelf, shape = shelves(dtype), SHAPES[site]
    x = _randn(device, dtype, len(SLOTS), shape.in_features + 3)[:, : shape.in_features]
    output = _randn(device, dtype, len(SLOTS), _width(shape), seed=1)
    base, expected = output.clone(), output.clone()
    device_lora_batch(_slots(device), shelf.slabs).add(output, x, site)
    shelf.grouped(SLOTS).add(expected, x, site)
    assert error_of(output, expected) <= TOLERANCE[dtype]
    untouched = _slots(device) < 0
    assert torch.equal(output[untouched], base[untouched]) and not torch.equal(output, base)
    end = shape.start + sum(shape.widths)
    assert torch.equal(output[:, : shape.start], base[:, : shape.start])
    assert torch.equal(output[:, end:], base[:, end:])


def test_base_rows_that_are_no_numbers_disturb_nobody(device, shelves):
    shelf = shelves(torch.float32)
    x, output = _randn(device, torch.float32, len(SLOTS), 512), torch.zeros(len(SLOTS), 40, device=device)
    x[0] = torch.nan
    device_lora_batch(_slots(device), shelf.slabs).add(output, x, 1)
    assert output.isfinite().all() and not output[0].any()


def test_a_token_has_the_same_bits_whatever_adapters_are_beside_its_own(device, shelves):
    shelf = shelves(torch.float32)
    x = _randn(device, torch.float32, 2, 512)
    together, alone = torch.zeros(2, 40, device=device), torch.zeros(1, 40, device=device)
    device_lora_batch(_slots(device, (1, 2)), shelf.slabs).add(together, x, 1)
    device_lora_batch(_slots(device, (2,)), shelf.slabs).add(alone, x[1:], 1)
    assert torch.equal(together[1:], alone)


def test_a_captured_graph_follows_slots_and_slabs(device, shelves):
    if device.type != "cuda":
        pytest.skip("only a GPU captures graphs")
    shelf, shape = shelves(torch.float16), SHAPES[0]
    slots, x = _slots(device), _randn(device, torch.float16, len(SLOTS), shape.in_features)
    output = torch.zeros(len(SLOTS), _width(shape), dtype=torch.float16, device=device)
    device_lora_batch(slots, shelf.slabs).add(output, x, 0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        device_lora_batch(slots, shelf.slabs).add(output, x, 0)
    for others in ((0,) * 10, (-1,) * 10, tuple(reversed(SLOTS))):
        slots.copy_(_slots(device, others))
        output.zero_()
        graph.replay()
        expected = torch.zeros_like(output)
        shelf.grouped(others).add(expected, x, 0)
        assert error_of(output, expected) <= TOLERANCE[torch.float16]
