"""Attention by kernels for whoever brings queries, keys and values of its own, against the one in torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from kindling_backend_models import backend_model_make
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import paged_attention_reference
from kindling_engine.layers.attention_kernels import KernelAttention
from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows, PrefillRows
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.models import transformers_backend
from kindling_engine.models.registry import model_load

HEADS, KV_HEADS, BLOCKS = 6, 2, 24
SINKS = torch.tensor([2.5, -1.0, 0.0, 4.0, 1.0, -30.0])
SPECS = [
    AttentionSpec(scale=0.2),
    AttentionSpec(scale=0.2, window=20, softcap=2.0),
    AttentionSpec(scale=0.2, window=20, sinks=SINKS),
]

STEPS = {
    "mixed": [(39, 40), (4, 5), (10, 33), (0, 18)],
    "decodes": [(70, 71), (16, 17)],
    "prefill": [(3, 30)],
}


def step(device: torch.device, storage: KvStorage, spans: list[tuple[int, int]]) -> AttentionInputs:
    """Spans ``(start, stop)``, one for each request; those of one token come first and are decodes."""
    order = np.random.default_rng(3).permutation(np.arange(1, BLOCKS)) * storage.pages_per_block
    slots, tables, prefills, at = [], [], [], 0
    for start, stop in spans:
        width = -(-stop // PAGE_SIZE)
        table, order = order[:width], order[width:]
        where = np.arange(start, stop)
        slots.extend((table[where // PAGE_SIZE] * PAGE_SIZE + where % PAGE_SIZE).tolist())
        if stop - start > 1:
            prefills.append(PrefillRows(at, at + stop - start, start, table, torch.float32, device))
        else:
            tables.append(table)
        at += stop - start
    blocks = np.zeros((len(tables), max(map(len, tables), default=0)), dtype=np.int64)
    for row, table in enumerate(tables):
        blocks[row, : len(table)] = table
    lengths = np.array([stop for start, stop in spans if stop - start == 1])
    decode = DecodeRows(blocks, lengths, torch.float32, device) if tables else None
    return AttentionInputs(torch.tensor(slots, device=device), decode, tuple(prefills))


@pytest.mark.parametrize("spec", SPECS, ids=["plain", "window-cap", "window-sinks"])
@pytest.mark.parametrize(
    "spans",
    [[(39, 40), (4, 5), (10, 33), (0, 18)], [(70, 71), (16, 17)], [(3, 30)]],
    ids=["mixed", "decodes", "prefill"],
)
@pytest.mark.parametrize("head_dim", [32, 24])
def test_a_step_is_as_in_torch(device, spec, spans, head_dim):
    storage = KvStorage(
        num_layers=1,
        num_kv_heads=KV_HEADS,
        head_dim=head_dim,
        num_blocks=BLOCKS,
        dtype=torch.float32,
        device=device,
    )
    torch.manual_seed(1)
    storage._blocks.copy_(torch.randn(storage._blocks.shape))
    spec = AttentionSpec(
        spec.scale, spec.window, spec.softcap, None if spec.sinks is None else spec.sinks.to(device)
    )
    cache = LayerCache(*storage.layers[0], *storage.slots[0])
    count = sum(stop - start for start, stop in spans)
    query = torch.randn(count, HEADS, head_dim).to(device)
    key, value = torch.randn(2, count, KV_HEADS, head_dim).to(device)
    inputs = step(device, storage, spans)
    attend = KernelAttention()
    expected = paged_attention_reference(query, key, value, cache, inputs, spec)
    for _ in range(2):  # as two layers of a step, which share its rows
        got = attend(query, key, value, cache, inputs, spec)
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_a_shape_without_a_kernel_is_computed_in_torch(device):
    storage = KvStorage(
        num_layers=1, num_kv_heads=2, head_dim=12, num_blocks=BLOCKS, dtype=torch.float32, device=device
    )
    cache = LayerCache(*storage.layers[0], *storage.slots[0])
    query, (key, value) = torch.randn(5, 2, 12).to(device), torch.randn(2, 5, 2, 12).to(device)
    inputs = step(device, storage, [(0, 5)])
    got = KernelAttention()(query, key, value, cache, inputs, SPECS[0])
    torch.testing.assert_close(got, paged_attention_reference(query, key, value, cache, inputs, SPECS[0]))


@pytest.mark.parametrize("architecture", ["GraniteSWAForCausalLM", "DeepseekV3ForCausalLM"])
def test_models_of_transformers_on_kernels(device, tmp_path: Path, monkeypatch, architecture):
    """Windows with sinks, and keys wider than values: each start proves itself, this one on kernels."""
    monkeypatch.setattr(transformers_backend, "attention_for", lambda device: KernelAttention())
    folder = backend_model_make(architecture, tmp_path)
    model = model_load(folder, device=device, dtype=torch.float32)
    assert isinstance(model._attention, KernelAttention) and model._attention._step is not None
