"""Weights as fp16 on a CPU: what is computed, when it is exact, where it is refused."""

import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_engine.layers.linear_half import HalfEmbedding, HalfLinear, half_supported
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import PLAIN, weight_form
from kindling_engine.protocol.weight_forms import CHECKPOINT, HALF
from kindling_parity import engine_parts, forced_logits, prompt_make
from kindling_tiny_models import adapter_make, model_make

pytestmark = pytest.mark.skipif(not half_supported(), reason="this processor has no such products")
CPU = torch.device("cpu")


def weight_make(outer: int, inner: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(outer, inner, generator=torch.Generator().manual_seed(seed)) * 0.02


@pytest.mark.parametrize("shape", [(96, 64), (600, 576), (33, 40), (5, 7)])
@pytest.mark.parametrize("count", [1, 3, 8, 40])
def test_a_projection_is_that_of_the_rounded_weights_in_fp32(shape, count):
    weight, bias = weight_make(*shape), weight_make(1, shape[0], 2)[0]
    x = weight_make(count, shape[1], 3) * 50
    exact = x.double() @ weight.half().double().T + bias
    found = HalfLinear(weight, bias)(x)
    assert found.dtype == torch.float32
    assert (found - exact).abs().max() <= 1e-5 * exact.abs().max()


def test_a_table_looks_up_the_rows_that_its_head_multiplies_with():
    weight = weight_make(320, 64)
    table = HalfEmbedding(weight)
    tokens = torch.tensor([0, 319, 7, 7])
    assert torch.equal(table(tokens), weight.half()[tokens].float())
    x = weight_make(3, 64, 5)
    assert torch.allclose(table.head()(x), x @ weight.half().float().T, atol=1e-6)


def test_a_row_does_not_feel_its_neighbours():
    linear = HalfLinear(weight_make(96, 576))
    x = weight_make(8, 576, 1)
    crowd = torch.cat([x[:1], 1e4 * x[1:]])
    assert torch.allclose(linear(crowd)[:1], linear(x[:1]), atol=1e-7)


def folder_round(folder: Path, dtype: torch.dtype) -> None:
    """Store every matrix of a checkpoint as ``dtype``, away from zero so far as fp16 wants it."""
    path = folder / "model.safetensors"
    tensors = {}
    for name, tensor in load_file(path).items():
        least = torch.where(tensor < 0, -(2.0**-14), 2.0**-14)
        tensors[name] = torch.where(tensor.abs() < 2.0**-14, least, tensor).to(dtype)
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["llama", "qwen3-moe", "gemma2", "phi3"])
def test_a_checkpoint_of_two_bytes_a_weight_gives_the_logits_of_fp32(tmp_path, name, dtype):
    folder = model_make(name, tmp_path / "model")
    folder_round(folder, dtype)
    targets = ["qkv_proj", "o_proj"] if name == "phi3" else ["q_proj", "v_proj", "o_proj"]
    adapter = adapter_make(folder, tmp_path / "a", r=4, lora_alpha=8, target_modules=targets)
    prompts = {f"{kind}{length}": prompt_make(length, length) for length in (2, 45) for kind in "ab"}
    adapted = {key: "a" for key in prompts if key.startswith("a")}

    def logits(weights: str) -> dict[str, torch.Tensor]:
        parts = engine_parts(folder, tmp_path, weights=weights, kv_tokens=512, step_tokens=24)
        assert not parts.adapters.acquire("a", adapter, "ticket", 0.0)
        stop_s = time.monotonic() + 60
        while not parts.adapters.poll(0.0):
            assert time.monotonic() < stop_s, "the adapter did not load"
        return forced_logits(parts, prompts, adapted)

    found, plain = logits(HALF), logits(CHECKPOINT)
    for key, expected in plain.items():
        assert (found[key] - expected).abs().max() <= 1e-4 * expected.abs().max(), key


def test_the_form_is_part_of_the_revision():
    form = weight_form(HALF, CPU)
    assert form.revision("abc") != PLAIN.revision("abc")


@pytest.mark.parametrize(("value", "says"), [(float("nan"), "not finite"), (70_000.0, "ends at 65,504")])
def test_weights_that_fp16_cannot_hold_are_refused(tmp_path, value, says):
    folder = model_make("llama", tmp_path)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.0.mlp.down_proj.weight"][3, 5] = value
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=says) as caught:
        model_load(folder, device=CPU, dtype=torch.float32, form=weight_form(HALF, CPU))
    assert caught.value.code == "unsupported_weights"


def test_it_is_for_a_cpu():
    with pytest.raises(ModelError, match="for a CPU"):
        weight_form(HALF, torch.device("cuda"))
