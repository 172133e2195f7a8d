"""A head that shares its embedding's table, and what a loaded model leaves in memory."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_engine.layers.embedding import Embedding
from kindling_engine.layers.table_head import TableHead
from kindling_engine.models import mapped_pages
from kindling_engine.models.mapped_pages import MappedPages, files_mapped
from kindling_parity import engine_parts, forced_logits, prompt_make
from kindling_tiny_models import model_make


def table_make(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 48, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [5, 1024, 1030, 3000])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 40])
def test_it_multiplies_with_every_row(rows, count):
    weight, x = table_make(rows), table_make(count, 1)
    found = TableHead(weight)(x)
    assert found.is_contiguous()
    assert found.shape == (count, rows)
    assert torch.allclose(found, x @ weight.T, atol=1e-4)


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_a_table_gives_rows_as_another_dtype_and_its_head_reads_the_same(stored):
    weight = table_make(1100).to(stored)
    table = Embedding(weight, torch.float32)
    tokens = torch.tensor([0, 1099, 7, 7])
    before = table(tokens)
    x = table_make(3, 1)
    assert torch.allclose(table.head()(x), x @ weight.float().T, atol=1e-4)
    assert torch.equal(before, weight.float()[tokens])
    assert torch.equal(table(tokens), before)
    assert table.dtype == torch.float32


def test_a_released_tensor_reads_as_before_and_memory_of_our_own_is_left_alone(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": table_make(20_000), "b": table_make(9_000, 1)}, path)
    tensors = load_file(path)
    own = {name: tensor.clone() for name, tensor in tensors.items()}
    kept = own["a"].clone()
    pages = MappedPages(tmp_path)
    pages.release(own["a"])
    assert torch.equal(own["a"], kept)
    for tensor in tensors.values():
        pages.release(tensor)
    pages.release_all()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in own.items())


def test_gaps_are_given_back_with_the_pages_while_a_model_loads(tmp_path, monkeypatch):
    """Parts that were joined leave gaps, which are memory as long as nobody gives them back."""
    trimmed = []
    monkeypatch.setattr(mapped_pages, "heap_trim", lambda: trimmed.append(True))
    monkeypatch.setattr(mapped_pages, "_ALL_EVERY_BYTES", 3 << 20)
    pages = MappedPages(tmp_path)
    for _ in range(7):
        pages.release(torch.zeros(1 << 18))
    assert len(trimmed) == 2


def test_files_are_found_among_the_addresses(tmp_path):
    from safetensors import safe_open

    path = tmp_path / "model.safetensors"
    save_file({"a": table_make(20_000)}, path)
    with safe_open(path, framework="pt", device="cpu") as handle:
        address = handle.get_tensor("a").data_ptr()
        assert any(address in span for span in files_mapped(tmp_path))
        assert not files_mapped(tmp_path / "other")
    assert not any(table_make(9_000).data_ptr() in span for span in files_mapped(tmp_path))


def test_a_checkpoint_in_bf16_gives_the_logits_of_its_widened_copy(tmp_path):
    folder = model_make("llama", tmp_path / "model", tie_word_embeddings=False)
    path = folder / "model.safetensors"
    half = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    prompts = {"p": prompt_make(30, 3)}
    found = []
    for tensors in (half, {name: tensor.float() for name, tensor in half.items()}):
        save_file(tensors, path, metadata={"format": "pt"})
        found.append(forced_logits(engine_parts(folder, tmp_path, kv_tokens=256), prompts)["p"])
    assert torch.equal(*found)
