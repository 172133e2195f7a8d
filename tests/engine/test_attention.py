"""Attention over pages against dense attention written out."""

import numpy as np
import pytest
import torch

from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import (
    AttentionFunction,
    AttentionInputs,
    AttentionSpec,
    DecodeRows,
    LayerCache,
    PrefillRows,
    attention_for,
    bidirectional_attention,
    paged_attention_reference,
)
from kindling_engine.layers.attention_tiled import paged_attention_tiled

HEADS, KV_HEADS, DIM, BLOCKS = 6, 2, 32, 64
CPU = torch.device("cpu")
SPECS = [
    AttentionSpec(scale=DIM**-0.5),
    AttentionSpec(scale=0.3),
    AttentionSpec(scale=DIM**-0.5, window=1),
    AttentionSpec(scale=DIM**-0.5, window=7),
    AttentionSpec(scale=DIM**-0.5, window=40),
    AttentionSpec(scale=DIM**-0.5, window=1000),
    AttentionSpec(scale=0.5, softcap=2.0),
    AttentionSpec(scale=0.5, softcap=2.0, window=20),
    AttentionSpec(scale=DIM**-0.5, sinks=torch.tensor([2.5, -1.0, 0.0, 4.0, 1.0, -30.0])),
    AttentionSpec(scale=0.3, sinks=torch.tensor([2.5, -torch.inf, 0.0, 4.0, 1.0, -3e38]), window=20),
]


def _name(spec: AttentionSpec) -> str:
    return f"scale{spec.scale:.2f}-window{spec.window}-cap{spec.softcap}{'-sinks' * (spec.sinks is not None)}"


def dense(query, key, value, spec, *, causal=True):
    """One sequence, ``[n, heads, d]``; queries are the last ones of the keys' positions."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1).double(), value.repeat_interleave(group, 1).double()
    scores = torch.einsum("qhd,khd->hqk", query.double(), key) * spec.scale
    if spec.softcap:
        scores = spec.softcap * torch.tanh(scores / spec.softcap)
    keys = torch.arange(len(key))
    queries = keys[len(key) - len(query) :]
    apart = queries[:, None] - keys[None, :]
    seen = apart >= 0 if causal else torch.ones_like(apart, dtype=torch.bool)
    if spec.window is not None:
        seen &= apart.abs() < spec.window
    scores = scores.masked_fill(~seen, float("-inf"))
    if spec.sinks is not None:
        sinks = spec.sinks.double()[:, None, None].expand(-1, len(query), 1)
        weights = torch.cat((scores, sinks), dim=-1).softmax(-1)[..., :-1]
        return torch.einsum("hqk,khd->qhd", weights, value).float().flatten(1)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).float().flatten(1)


class World:
    """Sequences in pages scattered over the storage, beside a dense copy of their K and V."""

    def __init__(self, lengths: list[int], *, blocks: int = BLOCKS) -> None:
        self.rng = np.random.default_rng(5)
        torch.manual_seed(5)
        storage = KvStorage(
            num_layers=1,
            num_kv_heads=KV_HEADS,
            head_dim=DIM,
            num_blocks=blocks,
            dtype=torch.float32,
            device=CPU,
        )
        self.cache = LayerCache(*storage.layers[0], *storage.slots[0])
        # What an earlier owner left behind must not be seen, so the pages start out full.
        storage._blocks[1:].normal_()
        free = list(self.rng.permutation(np.arange(1, blocks)) * storage.pages_per_block)
        self.tables = [np.array([free.pop() for _ in range(-(-length // PAGE_SIZE))]) for length in lengths]
        self.query = [torch.randn(length, HEADS, DIM) for length in lengths]
        self.key = [torch.randn(length, KV_HEADS, DIM) for length in lengths]
        self.value = [torch.randn(length, KV_HEADS, DIM) for length in lengths]

    def step(
        self,
        spans: list[tuple[int, int, int]],
        spec: AttentionSpec,
        attention: AttentionFunction | None = None,
    ) -> list[torch.Tensor]:
        """Run one step over ``(sequence, start, stop)``; spans of one token come first and are decodes."""
        slots, prefills, decodes, at = [], [], False, 0
        for sequence, start, stop in spans:
            where = np.arange(start, stop)
            table = self.tables[sequence]
            slots.extend((table[where // PAGE_SIZE] * PAGE_SIZE + where % PAGE_SIZE).tolist())
            if stop - start == 1:
                decodes = True
            else:
                prefills.append(PrefillRows(at, at + stop - start, start, table, torch.float32, CPU))
            at += stop - start
        decode = self.rows([span for span in spans if span[2] - span[1] == 1]) if decodes else None
        inputs = AttentionInputs(torch.tensor(slots), decode, tuple(prefills))
        output = (attention or attention_for(CPU))(
            torch.cat([self.query[s][a:b] for s, a, b in spans]),
            torch.cat([self.key[s][a:b] for s, a, b in spans]),
            torch.cat([self.value[s][a:b] for s, a, b in spans]),
            self.cache,
            inputs,
            spec,
        )
        return list(output.split([b - a for _, a, b in spans]))

    def rows(self, spans: list[tuple[int, int, int]]) -> DecodeRows:
        """The decodes of a step."""
        tables = [self.tables[sequence] for sequence, _, _ in spans]
        blocks = np.zeros((len(spans), max(map(len, tables))), dtype=np.int64)
        for row, table in enumerate(tables):
            blocks[row, : len(table)] = table
        return DecodeRows(blocks, np.array([stop for _, _, stop in spans]), torch.float32, CPU)

    def expected(self, span: tuple[int, int, int], spec: AttentionSpec) -> torch.Tensor:
        sequence, start, stop = span
        return dense(
            self.query[sequence][start:stop], self.key[sequence][:stop], self.value[sequence][:stop], spec
        )

    def error(self, spans: list[tuple[int, int, int]], spec: AttentionSpec) -> float:
        """The largest of all implementations, as a share of what rounding may do; NaN where one has made it."""
        shares = []
        for attention in (attention_for(CPU), paged_attention_reference, paged_attention_tiled):
            for span, got in zip(spans, self.step(spans, spec, attention), strict=True):
                expected = self.expected(span, spec)
                shares.append(((got - expected).abs() / (2e-5 + 1e-4 * expected.abs())).max())
        return float(torch.stack(shares).max())


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_a_prompt_in_one_piece(spec):
    assert World([50]).error([(0, 0, 50)], spec) <= 1


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_a_prompt_in_chunks_that_ignore_pages(spec):
    world = World([75])
    for start, stop in ((0, 21), (21, 48), (48, 75)):
        assert world.error([(0, start, stop)], spec) <= 1


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_decodes_of_very_different_lengths_beside_prefills(spec):
    world = World([90, 3, 33, 17, 40, 60])
    for sequence, length in ((0, 90), (1, 3), (2, 33), (3, 17)):
        if length > 2:
            world.step([(sequence, 0, length - 1)], spec)
    world.step([(4, 0, 16)], spec)
    assert world.error([(0, 89, 90), (1, 2, 3), (2, 32, 33), (3, 16, 17), (4, 16, 40), (5, 0, 60)], spec) <= 1


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_many_decodes_of_equal_length(spec):
    world = World([32] * 5)
    world.step([(sequence, 0, 31) for sequence in range(5)], spec)
    assert world.error([(sequence, 31, 32) for sequence in range(5)], spec) <= 1


def test_a_prefix_that_two_requests_share():
    """The second reads pages that the first wrote, and computes only what follows."""
    spec = AttentionSpec(scale=DIM**-0.5, window=30)
    world = World([64, 50])
    world.tables[1][:2] = world.tables[0][:2]
    world.key[1][:32], world.value[1][:32] = world.key[0][:32], world.value[0][:32]
    world.step([(0, 0, 64)], spec)
    assert world.error([(1, 32, 50)], spec) <= 1


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_decodes_that_share_prefixes_with_some_of_the_others(spec):
    """Two families of long prefixes, of different lengths and out of order, beside rows of their own."""
    lengths = [450, 20, 465, 451, 449, 450, 470, 90]
    world = World(lengths, blocks=256)
    for family, width in (((0, 3, 5), 26), ((2, 4, 6), 28)):
        head = family[0]
        for other in family[1:]:
            world.tables[other][:width] = world.tables[head][:width]
            shared = slice(0, width * PAGE_SIZE)
            world.key[other][shared], world.value[other][shared] = (
                world.key[head][shared],
                world.value[head][shared],
            )
    for sequence, length in enumerate(lengths):
        world.step([(sequence, 0, length - 1)], spec)
    spans = [(sequence, length - 1, length) for sequence, length in enumerate(lengths)]
    assert world.error(spans, spec) <= 1
    plan = world.rows(spans).plan(None)
    assert sorted(len(prefix.pages) for prefix in plan.shared) == [26, 28]


@pytest.mark.parametrize("spec", SPECS, ids=_name)
def test_decodes_that_all_share_a_prefix(spec):
    world = World([170] * 6, blocks=80)
    for other in range(1, 6):
        world.tables[other][:10] = world.tables[0][:10]
        world.key[other][:160], world.value[other][:160] = world.key[0][:160], world.value[0][:160]
    for sequence in range(6):
        world.step([(sequence, 0, 169)], spec)
    spans = [(sequence, 169, 170) for sequence in range(6)]
    assert world.error(spans, spec) <= 1
    assert world.rows(spans).plan(None).shared[0].rows is None


def test_a_long_row_does_not_pad_the_short_ones():
    lengths = [20, 900, 25, 30, 870, 22]
    world = World(lengths, blocks=160)
    for sequence, length in enumerate(lengths):
        world.step([(sequence, 0, length - 1)], SPECS[0])
    spans = [(sequence, length - 1, length) for sequence, length in enumerate(lengths)]
    assert world.error(spans, SPECS[0]) <= 1
    groups = world.rows(spans).plan(None).groups
    assert [group.rows.tolist() for group in groups] == [[1, 4], [0, 2, 3, 5]]
    assert sum(len(group.pages) for group in groups) == 2 * 57 + 4 * 2


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.sinks is None], ids=_name)
def test_encoders_see_both_ways(spec):
    lengths = [5, 9, 9, 30, 2]
    torch.manual_seed(0)
    query = torch.randn(sum(lengths), HEADS, DIM)
    key, value = torch.randn(2, sum(lengths), KV_HEADS, DIM)
    got = bidirectional_attention(query, key, value, lengths, spec).split(lengths)
    parts = zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
    for output, (q, k, v) in zip(got, parts, strict=True):
        torch.testing.assert_close(output, dense(q, k, v, spec, causal=False), atol=2e-5, rtol=1e-4)
