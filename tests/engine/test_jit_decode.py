"""Attention of decodes, norms and gates by compiled code: torch's results, and each row's by itself."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_decodes import decodes_make
from kindling_engine.jit import compiling
from kindling_engine.jit.decode import CompiledDecode, DecodeKernel, compiled_decode, decode_kernel
from kindling_engine.jit.rows import row_kernels
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import (
    AttentionInputs,
    AttentionSpec,
    DecodeRows,
    LayerCache,
    PrefillRows,
)
from kindling_engine.layers.attention_cpu import paged_attention_cpu
from kindling_engine.layers.kv_narrow import E4M3
from kindling_engine.layers.norm import RmsNorm
from kindling_engine.layers.rotary import RotaryTables, rotate

BLOCKS = 40
SPEC = AttentionSpec(scale=0.3)
ROWS = row_kernels()
pytestmark = pytest.mark.skipif(ROWS is None, reason="no code is made for this processor")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def cache_make(kv_heads: int, head_dim: int) -> LayerCache:
    pages = [random(kv_heads, BLOCKS, PAGE_SIZE, head_dim, seed=seed) for seed in (1, 2)]
    return LayerCache(*pages, *(one.view(kv_heads, -1, head_dim) for one in pages))


def inputs_make(lengths: list[int]) -> AttentionInputs:
    return decodes_make(lengths, BLOCKS)


def tables_make(count: int, size: int) -> RotaryTables:
    angles = 100 * random(count, size // 2, seed=7)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), -1).unsqueeze(1), torch.cat((-sin, sin), -1).unsqueeze(1)


def reference(
    qkv: Tensor,
    tables: RotaryTables | None,
    cache: LayerCache,
    inputs: AttentionInputs,
    heads: int,
    norms: Any,
) -> Tensor:
    kv_heads, head_dim = cache.key_pages.shape[0], cache.key_pages.shape[3]
    query, key, value = qkv.view(-1, heads + 2 * kv_heads, head_dim).split([heads, kv_heads, kv_heads], 1)
    if norms is not None:
        query, key = norms[0](query), norms[1](key)
    if tables is not None:
        query, key = rotate(query, tables), rotate(key, tables)
    return paged_attention_cpu(query, key, value, cache, inputs, SPEC)


@pytest.mark.parametrize("lengths", [[1], [16], [17], [1, 5, 16, 33, 100], [130] * 3])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "turned"),
    [(4, 2, 16, 16), (9, 3, 64, 64), (2, 2, 128, 32), (3, 1, 80, 0)],
)
@pytest.mark.parametrize("normed", [False, True])
def test_decodes_attend_as_torch_has_them(
    lengths: list[int], heads: int, kv_heads: int, head_dim: int, turned: int, normed: bool
):
    norms = (
        (RmsNorm(random(head_dim, seed=3), 1e-5), RmsNorm(random(head_dim, seed=4), 1e-5)) if normed else None
    )
    compiled = compiled_decode(heads=heads, kv_heads=kv_heads, head_dim=head_dim, spec=SPEC, norms=norms)
    assert compiled is not None
    tables = tables_make(len(lengths), turned) if turned else None
    inputs = inputs_make(lengths)
    assert compiled.takes(inputs, tables)
    qkv = random(len(lengths), (heads + 2 * kv_heads) * head_dim, seed=5)
    wanted_cache, found_cache = cache_make(kv_heads, head_dim), cache_make(kv_heads, head_dim)
    wanted = reference(qkv, tables, wanted_cache, inputs, heads, norms)
    torch.set_num_threads(2)
    found = compiled(qkv.clone(), tables, found_cache, inputs_make(lengths))
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    for name in ("key_pages", "value_pages"):
        mine, theirs = getattr(found_cache, name), getattr(wanted_cache, name)
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 5, 7])
def test_heads_of_the_same_keys_attend_in_vectors_of_either_width(
    width: int, group: int, monkeypatch: pytest.MonkeyPatch
):
    processor = compiling.processor_here()
    monkeypatch.setattr(compiling, "processor_here", lambda: replace(processor, widths=(width,)))
    kernel = DecodeKernel(64)
    compiled = CompiledDecode(kernel, heads=2 * group, kv_heads=2, spec=SPEC, norms=None)
    lengths = [1, 16, 35, 100]
    qkv = random(len(lengths), (2 * group + 4) * 64, seed=5)
    wanted = reference(qkv, None, cache_make(2, 64), inputs_make(lengths), 2 * group, None)
    found = compiled(qkv.clone(), None, cache_make(2, 64), inputs_make(lengths))
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_row_attends_to_the_same_bits_in_any_company():
    lengths, heads, kv_heads, head_dim = [70, 3, 31, 100], 4, 2, 64
    compiled = compiled_decode(heads=heads, kv_heads=kv_heads, head_dim=head_dim, spec=SPEC, norms=None)
    assert compiled is not None
    qkv, tables = random(4, (heads + 2 * kv_heads) * head_dim, seed=5), tables_make(4, head_dim)
    together = compiled(qkv.clone(), tables, cache_make(kv_heads, head_dim), inputs_make(lengths))
    for count in (1, 2):
        torch.set_num_threads(count)
        for row in range(4):
            inputs = inputs_make(lengths)
            assert inputs.decode is not None
            one = slice(row, row + 1)
            alone = AttentionInputs(
                inputs.slots[one],
                DecodeRows(
                    inputs.decode.blocks[one], inputs.decode.lengths[one], torch.float32, torch.device("cpu")
                ),
                (),
            )
            turned = (tables[0][one], tables[1][one])
            found = compiled(qkv[one].clone(), turned, cache_make(kv_heads, head_dim), alone)
            assert torch.equal(found, together[one])


def test_windows_caps_and_odd_heads_are_left_to_torch():
    shape: dict[str, Any] = {"heads": 2, "kv_heads": 1, "norms": None}
    assert compiled_decode(head_dim=64, spec=AttentionSpec(scale=1.0, window=9), **shape) is None
    assert compiled_decode(head_dim=64, spec=AttentionSpec(scale=1.0, softcap=9.0), **shape) is None
    assert compiled_decode(head_dim=20, spec=SPEC, **shape) is None
    assert compiled_decode(head_dim=512, spec=SPEC, **shape) is None
    assert decode_kernel(64) is decode_kernel(64)


def test_rows_that_share_a_long_prefix_are_left_to_one_product():
    compiled = compiled_decode(heads=2, kv_heads=1, head_dim=64, spec=SPEC, norms=None)
    assert compiled is not None
    inputs = inputs_make([20, 20])
    assert compiled.takes(inputs, None)
    for pages, taken in ((70, True), (150, False)):
        # All requests share all but the last page, whether or not one of them has guesses.
        for guesses in (0, 3):
            requests = np.repeat(np.arange(4), [1 + guesses, 1, 1, 1])
            blocks = np.tile(np.arange(1, pages + 1), (len(requests), 1))
            blocks[:, -1] += requests
            lengths = np.array([PAGE_SIZE * pages - 9] * len(requests))
            lengths[: 1 + guesses] += np.arange(1 + guesses)
            rows = DecodeRows(blocks, lengths, torch.float32, torch.device("cpu"))
            assert compiled.takes(AttentionInputs(inputs.slots, rows, ()), None) is taken
    assert not compiled.takes(inputs, tables_make(2, 8))


@pytest.mark.parametrize("others", [0, 2])
def test_what_the_rows_of_one_request_share_is_left_to_nobody_else(others: int):
    compiled = compiled_decode(heads=2, kv_heads=1, head_dim=64, spec=SPEC, norms=None)
    assert compiled is not None
    pages = 150
    tables = [np.arange(1, pages + 1) + pages * request for request in [0, 0, 0, *range(1, others + 1)]]
    lengths = np.array([PAGE_SIZE * pages - 9 + place for place in range(3)] + [PAGE_SIZE * pages] * others)
    rows = DecodeRows(np.stack(tables), lengths, torch.float32, torch.device("cpu"))
    assert compiled.takes(AttentionInputs(inputs_make([20]).slots, rows, ()), None) is True


@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_rows_are_normed_and_gated(count: int):
    assert ROWS is not None
    x, weight = 5 * random(count, 96), random(96, seed=1)
    assert torch.allclose(ROWS.norm(x, weight, 1e-6), torch.rms_norm(x, (96,), weight, 1e-6), rtol=1e-5)
    assert torch.allclose(RmsNorm(weight, 1e-6)(x[:, :96]), torch.rms_norm(x, (96,), weight, 1e-6), rtol=1e-5)
    total, more = x.clone(), random(count, 96, seed=2)
    normed = RmsNorm(weight, 1e-6).of_sum(total, more)
    assert torch.equal(total, x + more)
    assert torch.allclose(normed, torch.rms_norm(x + more, (96,), weight, 1e-6), rtol=1e-5)
    left, right = (30 * x).chunk(2, dim=-1)
    assert torch.allclose(ROWS.gate(30 * x, "silu"), F.silu(left) * right, rtol=1e-5, atol=1e-30)


def test_the_ends_of_the_numbers_go_through_a_gate():
    assert ROWS is not None
    ends = torch.tensor([0.0, -0.0, 1e-38, -1e38, 1e38, float("inf"), -200.0, 200.0])
    both = torch.cat((ends, torch.ones(8))).repeat(1, 1).repeat_interleave(2, dim=1)[:, :32]
    found, wanted = ROWS.gate(both, "silu"), F.silu(both[:, :16]) * both[:, 16:]
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-30)
    assert ROWS.gate(torch.full((1, 32), float("nan")), "silu").isnan().all()


def test_prompts_up_to_a_length_are_read_row_by_row_and_others_in_that_mode_alone():
    shape: dict[str, Any] = {"heads": 2, "kv_heads": 1, "head_dim": 64, "spec": SPEC, "norms": None}
    ordinary, always = compiled_decode(**shape), compiled_decode(**shape, always=True)
    assert ordinary is not None and always is not None
    cpu = torch.device("cpu")
    for length, taken in ((1024, True), (1025, False)):
        blocks = np.arange(1, length // PAGE_SIZE + 2)
        prompt = PrefillRows(0, 2, length - 2, blocks, torch.float32, cpu)
        lengths = np.array([length - 1, length])
        rows = DecodeRows(np.tile(blocks, (2, 1)), lengths, torch.float32, cpu)
        inputs = AttentionInputs(torch.tensor([0, 1]), None, (prompt,), singly=lambda rows=rows: rows)
        assert ordinary.takes(inputs, None) is taken
        assert always.takes(inputs, None)
        assert not always.takes(replace(inputs, singly=None), None)


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), [(4, 2, 16), (9, 3, 64), (2, 2, 128), (3, 1, 80)])
def test_keys_and_values_in_e4m3_are_those_of_torch(heads: int, kv_heads: int, head_dim: int):
    """The same bytes in the pages, for numbers of every size and for none, and what torch makes of them."""
    compiled = compiled_decode(heads=heads, kv_heads=kv_heads, head_dim=head_dim, spec=SPEC, norms=None)
    assert compiled is not None
    lengths = [1, 5, 16, 33, 100]
    scales = torch.tensor([0.3, 2.0, 0.011])[:kv_heads].expand(1, 2, -1).contiguous()
    sizes = {"num_layers": 1, "num_kv_heads": kv_heads, "head_dim": head_dim, "num_blocks": BLOCKS}
    stores = [KvStorage(dtype=E4M3, device=torch.device("cpu"), scales=scales, **sizes) for _ in range(2)]
    for store in stores:
        bits = torch.randint(0, 0x7F, store._blocks.shape, generator=torch.Generator().manual_seed(2))
        store._blocks.view(torch.uint8).copy_(bits)
    wanted_cache, found_cache = (LayerCache(*one.layers[0], *one.slots[0], *one.scales[0]) for one in stores)
    assert compiled.meet(found_cache)
    pages = stores[0].pages_per_block
    inputs = [decodes_make(lengths, BLOCKS, pages_per_block=pages) for _ in range(2)]
    assert compiled.takes(inputs[0], None)
    qkv = random(len(lengths), heads + 2 * kv_heads, head_dim, seed=5)
    # The row of one key, whose output is its value, has numbers of all sizes; no other reads it.
    qkv[0, heads:] *= torch.logspace(-4, 4, head_dim)
    qkv[0, heads:, :4] = torch.tensor([float("inf"), float("-inf"), 0.0, float("nan")])
    qkv = qkv.flatten(1)
    wanted = reference(qkv, None, wanted_cache, inputs[0], heads, None)
    torch.set_num_threads(2)
    found = compiled(qkv.clone(), None, found_cache, inputs[1])
    assert torch.equal(*(one._blocks.view(torch.uint8) for one in stores))
    assert torch.allclose(found[0], wanted[0], rtol=1e-4, atol=1e-4)
    # Of many keys large values cancel each other, and what is left is as exact as those were.
    assert (found - wanted)[1:].abs().max() <= 1e-5 * wanted.abs().max()
    assert found.isfinite().all()
