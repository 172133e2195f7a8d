"""Bags give what the products give, whatever the ranks, targets and rows."""

import pytest
import torch

from kindling_engine.lora.bags import bag_width, bags_fit
from kindling_engine.lora.batch import LoraBatch, LoraGroup
from kindling_engine.lora.host import HostLora, HostLoraBatch
from kindling_engine.lora.loader import LoadedAdapter
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.lora.stores import HostStore
from kindling_slabs import weights_make

SHAPES = (
    SiteShape(24, 0, (64, 16, 16)),
    SiteShape(40, 8, (24,)),
    SiteShape(0, 0, ()),
    SiteShape(24, 0, (32, 32)),
)
RANKS = {
    "query and value": ((8, 0, 8), (), (), ()),
    "all": ((4, 3, 9), (17,), (), (8, 1)),
    "one": ((), (2,), (), ()),
}


class World:
    """Adapters in a pool, and the same as they were made."""

    def __init__(self, kinds: list[str]) -> None:
        self.store = HostStore(SHAPES, budget_bytes=8 << 20)
        self.made = [weights_make(SHAPES, RANKS[kind], seed=index) for index, kind in enumerate(kinds)]
        self.placed = [self.store.place(self.store.ready(LoadedAdapter(one, ()))) for one in self.made]
        self.lora = HostLora(self.store.slabs.tables.pool, SHAPES)

    def check(self, spans: dict[int, tuple[tuple[int, int], ...]], rows: int) -> LoraBatch:
        """Both ways at every site; rows outside of the spans stay as they are."""
        batch = self.lora(tuple(LoraGroup(runs, self.placed[index]) for index, runs in spans.items()))
        plain = LoraBatch(tuple(LoraGroup(runs, self.made[index]) for index, runs in spans.items()))
        for site, shape in enumerate(SHAPES):
            x = torch.randn(rows, shape.in_features, generator=torch.Generator().manual_seed(site))
            found = torch.ones(rows, shape.start + sum(shape.widths))
            expected = found.clone()
            batch.add(found, x, site)
            plain.add(expected, x, site)
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
            base = [
                row
                for row in range(rows)
                if not any(a <= row < b for runs in spans.values() for a, b in runs)
            ]
            assert (found[base] == 1).all()
        return batch


def test_one_row_each():
    batch = World(["query and value"] * 6).check({i: ((i + 2, i + 3),) for i in range(6)}, 9)
    assert isinstance(batch, HostLoraBatch) and not batch.groups
    assert [bags.rows for bags in batch.bags] == [(2, 3, 4, 5, 6, 7)]


def test_kinds_apart_and_scattered_rows():
    kinds = ["query and value", "all"] * 5 + ["one"]
    batch = World(kinds).check({i: ((2 * i, 2 * i + 1), (30 + i, 31 + i)) for i in range(11)}, 45)
    assert len(batch.bags) == 2 and len(batch.groups) == 1, "an adapter of its own kind is not worth bags"


def test_adapters_with_many_rows_are_multiplied_at_once():
    spans = {0: ((0, 20),), **{i: ((19 + i, 20 + i),) for i in range(1, 7)}}
    batch = World(["all"] * 7).check(spans, 26)
    assert [group.spans for group in batch.groups] == [((0, 20),)]


def test_a_few_rows_are_not_worth_it():
    batch = World(["all"] * 3).check({i: ((i, i + 1),) for i in range(3)}, 3)
    assert type(batch) is LoraBatch


def test_steady_decode_finds_its_bags_again():
    world = World(["all"] * 6)
    spans = {i: ((i, i + 1),) for i in range(6)}
    first = world.check(spans, 6)
    assert world.check(spans, 6).bags[0] is first.bags[0]
    assert world.check({i: ((5 - i, 6 - i),) for i in range(6)}, 6).bags[0] is not first.bags[0]


def test_a_place_taken_again_holds_the_new_adapter():
    world = World(["all"] * 6)
    spans = {i: ((i, i + 1),) for i in range(6)}
    world.check(spans, 6)
    world.store.remove(world.placed[2])
    world.made[2] = weights_make(SHAPES, RANKS["all"], seed=77)
    world.placed[2] = world.store.place(world.store.ready(LoadedAdapter(world.made[2], ())))
    world.check(spans, 6)


@pytest.mark.parametrize(("widths", "width"), [((576, 192, 192), 64), ((40, 16), 8), ((7,), 1)])
def test_width_of_a_bag(widths, width):
    shape = SiteShape(8, 0, widths)
    assert bag_width(shape) == width
    assert bags_fit((shape, SiteShape(0, 0, ())), torch.float32) is (width >= 8)
    assert not bags_fit((shape,), torch.bfloat16)
