"""Steps differ by how many rows they have and where those lie, and no kernel is compiled anew for that."""

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from kindling_engine.kernels.ahead import variants
from kindling_engine.kernels.lora_expand import lora_expand
from kindling_engine.kernels.lora_segment import segments_make
from kindling_engine.kernels.lora_shrink import lora_shrink
from kindling_engine.kernels.moe import sparse_mlp
from kindling_engine.kernels.paged_decode import DecodeWorkspace, paged_decode
from kindling_engine.kernels.paged_prefill import paged_prefill
from kindling_engine.kernels.rope_kv import KvTarget, rope_kv
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_engine.lora.slab_layout import SiteShape

HEADS, KV_HEADS, DIM = 8, 2, 64
SPEC = AttentionSpec(scale=0.125)
ROWS = ((32, 0), (16, 1), (7, 2), (1, 3), (30, 4))
"""Rows of a step, and how many others lie before them."""


def _ints(rows: int, before: int) -> torch.Tensor:
    return torch.zeros(before + rows, dtype=torch.int32)[before:]


def _pages() -> torch.Tensor:
    return torch.zeros(KV_HEADS, 4, 16, DIM, dtype=torch.bfloat16)


def _query(rows: int) -> torch.Tensor:
    return torch.zeros(rows, HEADS, DIM, dtype=torch.bfloat16)


def _decode(rows: int, before: int) -> None:
    workspace = DecodeWorkspace.make(
        requests=32,
        q_len=1,
        heads=HEADS,
        kv_heads=KV_HEADS,
        head_dim=DIM,
        max_splits=2,
        device=torch.device("cpu"),
    )
    # A table that begins where other columns end, as rows' tables do.
    tables = _ints(64, before).view(16, 4)
    places = (_ints(rows, before), _ints(rows, before))
    paged_decode(
        _query(rows), _pages(), _pages(), tables, *places, spec=SPEC, max_splits=2, workspace=workspace
    )


def _prefill(rows: int, before: int) -> None:
    tables = _ints(64, before).view(16, 4)
    places = (_ints(rows, before), _ints(rows + 1, before), _ints(rows, before))
    paged_prefill(_query(64), _pages(), _pages(), tables, *places, spec=SPEC, max_query=32)


def _narrow(rows: int, before: int) -> None:
    """A layer of those behind others, with a KV head whose scales begin where one number ends."""
    device = torch.device("cpu")
    sizes = {"num_layers": 5, "num_kv_heads": 1, "head_dim": DIM, "num_blocks": 2, "device": device}
    storage = KvStorage(dtype=torch.float8_e4m3fn, scales=torch.ones(5, 2, 1), **sizes)
    pages, (key_scale, value_scale) = storage.layers[before], storage.scales[before]
    scales = {"key_scale": key_scale, "value_scale": value_scale}
    qkv = torch.zeros(rows, (HEADS // 2 + 2) * DIM, dtype=torch.bfloat16)
    target = KvTarget(*pages, torch.zeros(rows, dtype=torch.int64), **scales)
    query = rope_kv(qkv, None, None, target, heads=HEADS // 2)
    tables, places = _ints(64, before).view(16, 4), (_ints(rows, before), _ints(rows, before))
    workspace = DecodeWorkspace.make(
        requests=32, q_len=1, heads=HEADS // 2, kv_heads=1, head_dim=DIM, max_splits=2, device=device
    )
    paged_decode(query, *pages, tables, *places, spec=SPEC, **scales, max_splits=2, workspace=workspace)
    chunks = (places[0], _ints(rows + 1, before), places[1])
    paged_prefill(query, *pages, tables, *chunks, spec=SPEC, **scales, max_query=32)


def _experts(rows: int, before: int) -> None:
    del before
    weights = torch.zeros(64, 64, 32, dtype=torch.bfloat16), torch.zeros(64, 32, 32, dtype=torch.bfloat16)
    x = torch.zeros(rows, 32, dtype=torch.bfloat16)
    sparse_mlp(x, torch.zeros(rows, 64), *weights, kind="silu", top_k=4, normalised=True)


def _adapters(rows: int, before: int) -> None:
    shape = SiteShape(32, 0, (32,))
    tables = SimpleNamespace(
        pool=torch.zeros(4096, dtype=torch.bfloat16),
        offsets=torch.zeros(4, 2, 4, dtype=torch.int64),
        firsts=torch.zeros(4, 2, 4, dtype=torch.int32),
        max_rank=16,
    )
    x = torch.zeros(rows, 32, dtype=torch.bfloat16)
    segments = segments_make(_ints(rows, 0), 16, num_slots=before + 1)
    shrunk = lora_shrink(x, segments, tables, before % 2, shape)
    lora_expand(shrunk, segments, tables, before % 2, shape, x)


STEPS: dict[Callable[[int, int], None], set[str]] = {
    _decode: {"paged_decode_kernel", "merge_pieces_kernel"},
    _prefill: {"paged_prefill_kernel"},
    _narrow: {"_rope_kv_kernel", "paged_decode_kernel", "merge_pieces_kernel", "paged_prefill_kernel"},
    _experts: {"_route_kernel", "_sort_kernel", "_grouped_kernel", "_gate_kernel", "_combine_kernel"},
    _adapters: {"_order_kernel", "_tiles_kernel", "_shrink_kernel", "_expand_kernel"},
}


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_kernel_is_compiled_once_for_all_steps(step: Callable[[int, int], None]):
    made = variants(partial(step, *ROWS[0]))
    assert {one.split()[0] for one in made} == STEPS[step]
    for rows, before in ROWS[1:]:
        assert variants(partial(step, rows, before)) == made, (rows, before)
