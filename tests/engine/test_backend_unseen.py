"""Adapters of models that see images, for text: what stands in their eyes is left aside, and told."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_backend_models import backend_model_make
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import LoadedAdapter, adapter_load
from kindling_engine.models.base import Model
from kindling_engine.models.registry import model_load
from kindling_engine.protocol.adapter_report import UNSEEN
from kindling_engine.server.control import engine_findings
from kindling_tiny_models import VOCAB, reference_load

CPU = torch.device("cpu")
WEIGHTS = "adapter_model.safetensors"
EYES = ("vision_tower", "multi_modal_projector")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    return backend_model_make("Mistral3ForConditionalGeneration", tmp_path_factory.mktemp("sees"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return model_load(folder, device=CPU, dtype=torch.float32)


@pytest.fixture
def adapter(tmp_path: Path, folder: Path) -> Path:
    adapted = peft.get_peft_model(reference_load(folder), peft.LoraConfig(r=3, target_modules="all-linear"))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.15 * torch.randn_like(parameter)
    adapted.save_pretrained(tmp_path / "style")
    return tmp_path / "style"


def load(folder: Path, model: Model) -> LoadedAdapter:
    limits: dict[str, Any] = {"max_bytes": 1 << 30, "device": CPU, "dtype": torch.float32}
    architecture = model.config.architecture
    return adapter_load(
        folder, model.lora, architecture=architecture, vocab_size=VOCAB, base_ref="acme/sees", **limits
    )


def written(folder: Path, keep: Any) -> Path:
    """A copy with those tensors whose names are kept."""
    copy = Path(shutil.copytree(folder, folder.with_name("copy")))
    tensors = load_file(folder / WEIGHTS)
    save_file({name: tensor for name, tensor in tensors.items() if keep(name)}, copy / WEIGHTS)
    return copy


def told(loaded: LoadedAdapter) -> list[str]:
    """What the engine's check passes on of it."""
    found = engine_findings(list(loaded.findings))
    return [finding.message for finding in found if (finding.check, finding.level) == (UNSEEN, "warn")]


def in_eye(name: str) -> bool:
    return any(eye in name for eye in EYES)


def test_matrices_in_the_eye_are_told_and_take_no_room(adapter: Path, model: Model):
    count = sum(map(in_eye, load_file(adapter / WEIGHTS)))
    whole = load(adapter, model)
    (message,) = told(whole)
    assert count > 20 and f"{count} matrices" in message and "text does not pass" in message
    assert all(any(eye in path for path in model.lora.unseen) for eye in EYES)
    alone = load(written(adapter, lambda name: not in_eye(name)), model)
    assert whole.weights.size_bytes == alone.weights.size_bytes > 0
    assert not told(alone)


def test_what_the_eye_does_not_have_is_refused(adapter: Path, model: Model):
    path = adapter / WEIGHTS
    tensors = load_file(path)
    name = next(name for name in tensors if "vision_tower.transformer.layers.1." in name)
    save_file(tensors | {name.replace("layers.1.", "layers.7."): tensors[name].clone()}, path)
    with pytest.raises(AdapterError) as caught:
        load(adapter, model)
    assert caught.value.code == "target_modules" and "layers.7." in caught.value.message


def test_an_adapter_of_the_eye_alone_is_refused(adapter: Path, model: Model):
    with pytest.raises(AdapterError) as caught:
        load(written(adapter, in_eye), model)
    assert caught.value.code == UNSEEN and "changes nothing" in caught.value.message


def test_names_that_only_the_eye_has_may_be_targets(adapter: Path, model: Model):
    path = adapter / "adapter_config.json"
    config = json.loads(path.read_text())
    own = ["linear_1", "linear_2", "merging_layer"]
    path.write_text(json.dumps(config | {"target_modules": [*own, *"qkvo", "q_proj", "k_proj", "v_proj"]}))
    with pytest.raises(AdapterError) as caught:
        load(adapter, model)
    assert "Not supported in target_modules: k, o, q, v" in caught.value.message


def test_text_passes_through_all_of_a_model_for_text(tmp_path: Path):
    folder = backend_model_make("OlmoeForCausalLM", tmp_path, num_experts_per_tok=1, num_experts=8)
    assert model_load(folder, device=CPU, dtype=torch.float32).lora.unseen == frozenset()
