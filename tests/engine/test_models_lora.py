"""One PEFT adapter on every architecture, in one batch with requests of the base model."""

from pathlib import Path

import pytest

from kindling_engine.core.startup import Parts
from kindling_parity import adapters_settled, assert_logits, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import MODELS, adapter_make, model_make, reference_load, reference_logits

TARGETS = {
    "default": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "phi3": ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
    "qwen3-moe": "all-linear",
    # The part that sees has layers of the same names.
    "gemma3-vision": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
}
# One of each family, and what differs in where adapters attach.
NAMES = ["llama", "smollm3", "mistral-window", "qwen2", "qwen3-yarn", "qwen3-moe", "gemma2", "gemma3"]
NAMES += ["gemma3-vision", "phi3", "gpt-oss"]


def _adapter_pin(parts: Parts, folder: Path) -> None:
    assert not parts.adapters.acquire("a", folder, "ticket", 0.0)
    error = adapters_settled(parts.adapters)[0].error
    assert error is None, error.message


@pytest.mark.parametrize("name", NAMES)
def test_logits_with_and_without_an_adapter(tmp_path, name):
    import peft

    folder = model_make(name, tmp_path / "model")
    targets = TARGETS.get(name, TARGETS["default"])
    adapter = adapter_make(folder, tmp_path / "a", r=5, lora_alpha=9, target_modules=targets)
    parts = engine_parts(folder, tmp_path, step_tokens=24, kv_tokens=512)
    _adapter_pin(parts, adapter)
    prompts = {
        f"{kind}{length}": prompt_make(length, length) for length in (2, 30, 45) for kind in ("a", "b")
    }
    ours = forced_logits(parts, prompts, {key: "a" for key in prompts if key.startswith("a")})
    base = reference_load(folder)
    expected = {key: reference_logits(base, prompts[key]) for key in prompts if key.startswith("b")}
    adapted = peft.PeftModel.from_pretrained(base, adapter).eval()
    expected |= {key: reference_logits(adapted, prompts[key]) for key in prompts if key.startswith("a")}
    for key in prompts:
        assert_logits(ours[key], expected[key], key)
    # The adapter does something, or this would prove nothing.
    assert (expected["a45"] - expected["b45"]).abs().max() > 0.05 * expected["b45"].abs().max()


def test_every_architecture_of_ours_has_an_adapter_here():
    from kindling_engine.models.registry import FAMILIES

    assert {MODELS[name].architecture for name in NAMES} == set(FAMILIES)
    assert {tiny.architecture for tiny in MODELS.values()} == set(FAMILIES)
