"""Slabs: how adapters are packed, where they lie in the pool, and what the tables say of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.kvcache.arena import Arena, arena_make
from kindling_engine.kvcache.manager import KvManager
from kindling_engine.lora.batch import AdapterWeights, TableWeights
from kindling_engine.lora.sites import LoraLayout, Target, decoder_layout
from kindling_engine.lora.slab_layout import ALIGNMENT, SiteShape, adapter_pack, header_bytes, site_shapes
from kindling_engine.lora.slabs import PAGE_BYTES, DeviceSlabs, Lending
from kindling_engine.lora.spans import Spans
from kindling_slabs import weights_make

CPU = torch.device("cpu")
SHAPES = (SiteShape(24, 0, (32, 8, 8)), SiteShape(32, 4, (24,)), SiteShape(0, 0, ()))
RANKS = ((4, 0, 3), (9,), ())


def _slabs(pages: int, num_slots: int = 4, **others) -> DeviceSlabs:
    return DeviceSlabs(
        SHAPES,
        budget_bytes=pages * PAGE_BYTES,
        num_slots=num_slots,
        dtype=torch.float16,
        device=CPU,
        **others,
    )


def _packed(seed: int = 0, ranks=RANKS):
    weights = weights_make(SHAPES, ranks, seed=seed, dtype=torch.float16)
    return weights, adapter_pack(weights, SHAPES, torch.float16, pinned=False)


def _read(slabs: DeviceSlabs, slot: int, site: int) -> dict[int, torch.Tensor]:
    """A, and each target's B by the column where it begins, as a kernel finds them."""
    shape, tables = SHAPES[site], slabs.tables
    offsets, firsts = tables.offsets[slot, site].tolist(), tables.firsts[slot, site].tolist()

    def matrix(begin: int, rows: int, width: int) -> torch.Tensor:
        return tables.pool[begin : begin + rows * width].view(rows, width)

    found = {-1: matrix(offsets[0], firsts[3], shape.in_features)}
    for index, (start, width) in enumerate(zip(shape.starts, shape.widths, strict=True)):
        found[start] = matrix(offsets[index + 1], firsts[index + 1] - firsts[index], width)
    return found


def _filled(matrix: torch.Tensor) -> torch.Tensor:
    """Zeros below, up to a multiple of four rows."""
    return torch.cat((matrix, matrix.new_zeros(-len(matrix) % 4, matrix.shape[1])))


def _check(slabs: DeviceSlabs, slot: int, weights: AdapterWeights) -> None:
    for site, expected in enumerate(weights.sites):
        if expected is None:
            assert slabs.tables.firsts[slot, site].tolist() == [0] * 4
            continue
        found = _read(slabs, slot, site)
        expands = sorted(expected.expands, key=lambda expand: expand.start)
        shrinks = [expected.shrink[expand.first : expand.last] for expand in expands]
        whole = torch.cat([_filled(shrink) for shrink in shrinks])
        assert torch.equal(found[-1], whole)
        for expand in expands:
            assert torch.equal(found[expand.start], _filled(expand.weight))
        targets = {expand.start for expand in expands}
        assert all(not len(found[start]) for start in SHAPES[site].starts if start not in targets)


def test_a_decoders_sites():
    layout = decoder_layout(num_layers=2, hidden_size=8, intermediate_size=12, q_size=16, kv_size=4)
    shapes = site_shapes(layout)
    assert shapes[:4] == (
        SiteShape(8, 0, (16, 4, 4)),
        SiteShape(16, 0, (8,)),
        SiteShape(8, 0, (12, 12)),
        SiteShape(12, 0, (8,)),
    )
    assert shapes[4:] == shapes[:4]
    assert shapes[0].starts == (0, 16, 20)


def test_sites_that_nothing_attaches_to_and_sites_that_kernels_do_not_take():
    assert site_shapes(LoraLayout({"a": Target(1, 4, 0, 6)}, 2)) == (
        SiteShape(0, 0, ()),
        SiteShape(4, 0, (6,)),
    )
    for targets in (
        {"a": Target(0, 4, 0, 6), "b": Target(0, 4, 8, 10)},
        {"a": Target(0, 4, 0, 6), "b": Target(0, 5, 6, 10)},
        {str(i): Target(0, 4, 6 * i, 6 * i + 6) for i in range(4)},
    ):
        with pytest.raises(ValueError, match="cannot be fused"):
            site_shapes(LoraLayout(targets, 1))


def test_what_is_loaded_lies_where_the_tables_say():
    slabs = _slabs(4)
    made = [_packed(seed, ranks) for seed, ranks in enumerate((RANKS, ((), (70,), ()), ((1, 1, 1), (), ())))]
    slots = [slabs.load(packed) for _, packed in made]
    assert slots == [0, 1, 2]
    for slot, (weights, _) in zip(slots, made, strict=True):
        _check(slabs, slot, weights)
        assert slabs.arrived(slot)
    # What vector loads of a GPU rely on.
    assert not (slabs.tables.offsets % 64).any()


def _lending(kv: KvManager, block_bytes: int) -> tuple[Arena, Lending]:
    arena = arena_make(
        own_bytes=PAGE_BYTES, block_bytes=block_bytes, num_blocks=kv.pool.capacity + 1, device=CPU
    )
    kv.loans.limit = kv.pool.capacity
    take = lambda count, cached: kv.lend(count, cached=cached)  # noqa: E731
    return arena, Lending(arena, kv.pool.capacity, take, kv.take_back, kv.loans.room)


@pytest.mark.parametrize("block_bytes", [1536, 1792, 4096, 1 << 20])
def test_a_slab_in_borrowed_blocks_lies_where_the_tables_say_and_nowhere_else(block_bytes):
    kv = KvManager(num_blocks=24, revision="r", kv_dtype="f")
    arena, lending = _lending(kv, block_bytes)
    arena.memory.fill_(0xA5)
    # Blocks that are free stand in no order.
    held = kv.pool.allocate(20)
    kv.pool.release(held[::2])
    slabs = _slabs(1, lending=lending)
    made = [_packed(seed) for seed in range(3)]
    slots = [slabs.borrow(packed, cached=False) for _, packed in made[:2]]
    assert slots == [0, 1] and slabs.load(made[2][1]) == 2
    for slot, (weights, _) in enumerate(made):
        _check(slabs, slot, weights)
    assert not (slabs.tables.offsets[:, :2, 0] % 64).any()
    lent = set(kv.loans._lent)
    assert sum(slabs.borrowed(slot) for slot in (0, 1)) == len(lent) and slabs.borrowed(2) == 0
    assert all(kv.pool.refs(block) == 1 for block in lent) and not lent & set(held[1::2])
    for block in set(range(24)) - lent:
        start = arena.block_start(block)
        assert (arena.memory[start : start + block_bytes] == 0xA5).all(), (
            "somebody else's block was written to"
        )
    slabs.free(0)
    slabs.free(1)
    assert kv.loans.lent == 0 and set(kv.scrub_take()) == lent, "what comes back is zeroed"


def test_what_lacks_idle_blocks_or_has_a_larger_matrix_does_not_borrow():
    kv = KvManager(num_blocks=24, revision="r", kv_dtype="f")
    _, lending = _lending(kv, 1536)
    slabs = _slabs(1, lending=lending)
    assert slabs.borrow(_packed(ranks=((70, 0, 0), (), ()))[1], cached=True) is None
    kv.loans.limit = 0
    assert slabs.borrow(_packed()[1], cached=True) is None and not slabs.may_borrow
    kv.loans.limit = 23
    assert slabs.may_borrow and slabs.borrow(_packed()[1], cached=True) == 0
    assert _slabs(1).borrow(_packed()[1], cached=True) is None


def test_a_slab_wastes_next_to_nothing():
    weights, packed = _packed(ranks=((16, 16, 16), (16,), ()))
    matrices = sum(1 + len(site.expands) for site in weights.sites if site is not None)
    _, header = header_bytes(len(SHAPES))
    assert 0 <= packed.slab.numel() - weights.size_bytes - header < matrices * ALIGNMENT
    assert packed.rank == 48


def test_freed_room_and_slots_are_taken_again():
    slabs = _slabs(2, num_slots=3)
    (first, one), (second, two), (third, three) = (_packed(seed) for seed in range(3))
    assert [slabs.load(one), slabs.load(two)] == [0, 1]
    assert slabs.free_bytes == 0 and slabs.load(three) is None
    slabs.free(0)
    assert slabs.load(three) == 0
    _check(slabs, 0, third)
    _check(slabs, 1, second)
    slabs.free(1)
    assert slabs.load(one) == 1
    _check(slabs, 1, first)


def test_a_slot_that_an_adapter_leaves_alone_says_so():
    slabs = _slabs(1, num_slots=1)
    slabs.load(_packed()[1])
    slabs.free(0)
    weights, packed = _packed(ranks=((), (2,), ()))
    assert slabs.load(packed) == 0
    _check(slabs, 0, weights)


def test_no_slot_left():
    slabs = _slabs(8, num_slots=1)
    assert slabs.load(_packed()[1]) == 0
    assert slabs.load(_packed()[1]) is None


def test_what_can_never_fit_is_refused():
    with pytest.raises(ValueError, match="more than the pool takes"):
        _slabs(4, max_target_rank=2).load(_packed(ranks=((8, 0, 7), (), ()))[1])
    wide = weights_make((SiteShape(4096, 0, (4096,)),), ((16,),), seed=0)
    slabs = DeviceSlabs(
        (SiteShape(4096, 0, (4096,)),),
        budget_bytes=PAGE_BYTES,
        num_slots=1,
        dtype=torch.float32,
        device=CPU,
    )
    with pytest.raises(ValueError, match="more than the pool takes"):
        slabs.load(adapter_pack(wide, slabs.shapes, torch.float32, pinned=False))
    with pytest.raises(RuntimeError, match="holds no adapter"):
        slabs.free(0)


def test_weights_of_another_model_and_more_than_products_are_refused():
    weights, _ = _packed()
    with pytest.raises(ValueError, match="3 sites, the model 1"):
        adapter_pack(weights, SHAPES[:1], torch.float16, pinned=False)
    others = (SHAPES[0], SiteShape(32, 0, (24,)), SHAPES[2])
    with pytest.raises(ValueError, match="are no target"):
        adapter_pack(weights, others, torch.float16, pinned=False)
    table = TableWeights(torch.zeros(4, 2), torch.zeros(24, 2))
    more = AdapterWeights(weights.sites, weights.size_bytes, weights.rank, table=table)
    with pytest.raises(ValueError, match="does more"):
        adapter_pack(more, SHAPES, torch.float16, pinned=False)


def test_an_adapter_that_targets_nothing_of_the_model_packs_to_a_header():
    packed = adapter_pack(AdapterWeights((None,) * 3, 0, 0), SHAPES, torch.float16, pinned=False)
    assert packed.rank == 0 and packed.slab.numel() == header_bytes(3)[1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=40))
def test_spans_never_overlap_and_all_comes_back(wanted):
    spans, held, total = Spans(20), [], 20
    for count, which in wanted:
        first = spans.take(count)
        if first is None:
            assert spans.largest < count
            if held:
                spans.give(*held.pop(which % len(held)))
            continue
        assert first + count <= total
        assert all(first + count <= other or other + size <= first for other, size in held)
        held.append((first, count))
        assert spans.free == total - sum(size for _, size in held)
    for span in held:
        spans.give(*span)
    assert spans.free == spans.largest == total


def test_the_tightest_gap_is_taken():
    spans = Spans(10)
    first, middle, _last = spans.take(4), spans.take(1), spans.take(2)
    assert spans.take(1) == 7
    spans.give(first, 4)
    assert (spans.free, spans.largest) == (6, 4)
    assert spans.take(2) == 8
    spans.give(middle, 1)
    assert spans.largest == 5
