"""Weights as fp16 on a CPU: whole models, and where it is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import PLAIN, weight_form
from kindling_engine.protocol.weight_forms import CHECKPOINT, HALF
from kindling_parity import adapters_settled, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import adapter_make, model_make

CPU = torch.device("cpu")


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
        adapters_settled(parts.adapters)
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
