"""Norm, rotation and storing of K and V against their reference, in every configuration."""

import pytest
import torch

from kindling_engine.kernels import rope_kv
from kindling_engine.kernels.rope_kv import KvTarget, QkNorm
from kindling_engine.kernels.tuning import error_of
from kindling_engine.layers.norm import CenteredRmsNorm
from kindling_engine.layers.rotary import Rotary, rotate
from kindling_engine.layers.rotary_scaling import RotaryConfig

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
HEADS, KV_HEADS, ROWS, BLOCKS = 6, 2, 3, 5
SLOTS = (37, -1, 79)


def _randn(device, dtype, *shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device=device, dtype=dtype)


def _target(device, dtype, head_dim, scales=None):
    pages = torch.zeros((2, KV_HEADS, BLOCKS, 16, head_dim), device=device).to(dtype)
    key_scale, value_scale = (None, None) if scales is None else scales
    return KvTarget(pages[0], pages[1], torch.tensor(SLOTS, device=device), key_scale, value_scale)


def _tables(device, dtype, dim):
    rotary = Rotary(RotaryConfig(dim=dim, theta=10000.0), device)
    return rotary.tables(torch.tensor([5, 900, 31], device=device), None, dtype)


def _check(ours, theirs, query, expected, tolerance):
    assert query.is_contiguous() and error_of(query, expected) <= tolerance
    assert error_of(ours.key_pages, theirs.key_pages) <= tolerance
    assert error_of(ours.value_pages, theirs.value_pages) == 0.0


@pytest.mark.parametrize("config", rope_kv.CONFIGS, ids=str)
@pytest.mark.parametrize(("head_dim", "dim", "norms"), [(16, 16, True), (24, 24, False), (32, 8, True)])
def test_queries_and_pages(device, dtype, head_dim, dim, norms, config):
    qkv = _randn(device, dtype, ROWS, (HEADS + 2 * KV_HEADS) * head_dim)
    weights = _randn(device, dtype, 2, head_dim, seed=1)
    norm = QkNorm(weights[0], weights[1], 1e-6) if norms else None
    ours, theirs = (_target(device, dtype, head_dim) for _ in range(2))
    tables = _tables(device, dtype, dim)
    expected = rope_kv.rope_kv_reference(qkv, tables, norm, theirs, heads=HEADS)
    query = rope_kv.rope_kv(qkv, tables, norm, ours, heads=HEADS, config=config)
    _check(ours, theirs, query, expected, TOLERANCE[dtype])


def test_without_rotation_states_pass_as_they_are(device, dtype):
    qkv = _randn(device, dtype, ROWS, (HEADS + 2 * KV_HEADS) * 16)
    ours = _target(device, dtype, 16)
    query = rope_kv.rope_kv(qkv, None, None, ours, heads=HEADS)
    assert torch.equal(query.flatten(1), qkv[:, : HEADS * 16])
    key = qkv.view(ROWS, -1, 16)[0, HEADS : HEADS + KV_HEADS]
    assert torch.equal(ours.key_pages[:, 37 // 16, 37 % 16], key)


def test_centred_weights_are_those_of_the_layers(device):
    qkv = _randn(device, torch.float32, ROWS, (HEADS + 2 * KV_HEADS) * 16)
    weights = _randn(device, torch.float32, 2, 16, seed=1)
    tables = _tables(device, torch.float32, 16)
    query = rope_kv.rope_kv(
        qkv, tables, QkNorm(*weights, 1e-6, centred=True), _target(device, torch.float32, 16), heads=HEADS
    )
    expected = rotate(CenteredRmsNorm(weights[0], 1e-6)(qkv.view(ROWS, -1, 16)[:, :HEADS]), tables)
    assert error_of(query, expected) <= TOLERANCE[torch.float32]


def test_a_row_without_a_slot_writes_nothing(device, dtype):
    qkv = _randn(device, dtype, ROWS, (HEADS + 2 * KV_HEADS) * 16)
    ours = _target(device, dtype, 16)
    rope_kv.rope_kv(qkv, _tables(device, dtype, 16), None, ours, heads=HEADS)
    written = ours.value_pages.flatten(1, 2).abs().sum(-1).nonzero()
    assert sorted({int(slot) for _, slot in written}) == sorted(slot for slot in SLOTS if slot >= 0)


def test_rows_may_lie_apart(device, dtype):
    width = (HEADS + 2 * KV_HEADS) * 16
    qkv = _randn(device, dtype, ROWS, width + 64)[:, :width]
    ours, theirs = (_target(device, dtype, 16) for _ in range(2))
    tables = _tables(device, dtype, 16)
    expected = rope_kv.rope_kv_reference(qkv.contiguous(), tables, None, theirs, heads=HEADS)
    query = rope_kv.rope_kv(qkv, tables, None, ours, heads=HEADS)
    _check(ours, theirs, query, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("config", rope_kv.CONFIGS, ids=str)
def test_pages_in_e4m3(device, config):
    qkv = 8 * _randn(device, torch.float32, ROWS, (HEADS + 2 * KV_HEADS) * 16)
    scales = torch.tensor([[0.05, 0.02], [0.04, 0.01]], device=device)
    ours, theirs = (_target(device, torch.float8_e4m3fn, 16, scales) for _ in range(2))
    tables = _tables(device, torch.float32, 16)
    rope_kv.rope_kv_reference(qkv, tables, None, theirs, heads=HEADS)
    rope_kv.rope_kv(qkv, tables, None, ours, heads=HEADS, config=config)
    for mine, other in ((ours.key_pages, theirs.key_pages), (ours.value_pages, theirs.value_pages)):
        assert mine.float().isfinite().all() and mine.float().abs().max() == 448.0
        # Keys may round the other way where rotation differs in its last bit: by one step, 1/8 of a number's size.
        apart = (mine.float() - other.float()).abs()
        assert (apart <= (other.float().abs() / 8).clamp(min=2.0**-9)).all()
        assert (apart > 0).float().mean() < 0.005
    assert torch.equal(ours.value_pages.float(), theirs.value_pages.float())
