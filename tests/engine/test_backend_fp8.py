"""FP8 checkpoints of models that run through transformers' modules: widened while they are read, to the last bit."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kindling_backend_models import backend_model_make
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.transformers_backend import TransformersModel
from kindling_fp8 import BLOCK, fp8_copy
from kindling_parity import assert_logits, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import reference_load

CPU = torch.device("cpu")
EXPERTS = {"first_k_dense_replace": 1}
# Experts that become two parameters of a layer beside latent attention, and beside layers with a state.
CASES = [
    ("DeepseekV3ForCausalLM", EXPERTS, "block"),
    ("DeepseekV3ForCausalLM", EXPERTS, "row"),
    ("Qwen3NextForCausalLM", {}, "block"),
]


class Published:
    """A checkpoint in FP8, and the model of the numbers that it stands for."""

    def __init__(self, folder: Path, architecture: str, shape: dict[str, Any], kind: str) -> None:
        source = backend_model_make(architecture, folder / "source", **shape)
        self.folder = folder / "fp8"
        meant = fp8_copy(source, self.folder, kind)
        self.narrow = sum(tensor.itemsize == 1 for tensor in self.tensors().values())
        # As with layers that guess tokens ahead: there, without a place in the model, and never looked at.
        self.write(self.tensors() | {"model.layers.9.eh_proj.weight": torch.zeros(4, 4, dtype=torch.int8)})
        wide = Path(shutil.copytree(source, folder / "wide"))
        save_file(meant, wide / "model.safetensors", {"format": "pt"})
        self.reference = reference_load(wide)

    def tensors(self) -> dict[str, Tensor]:
        return load_file(self.folder / "model.safetensors")

    def write(self, tensors: dict[str, Tensor]) -> None:
        save_file(tensors, self.folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[2]}")
def published(request, tmp_path_factory) -> Published:
    torch.set_num_threads(1)
    return Published(tmp_path_factory.mktemp("published"), *request.param)


@pytest.fixture
def changed(tmp_path: Path) -> Published:
    return Published(tmp_path, "DeepseekV3ForCausalLM", EXPERTS, "block")


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    return caught.value


def test_logits_are_those_of_the_widened_model(published: Published, tmp_path: Path):
    parts = engine_parts(published.folder, tmp_path)
    prompt = prompt_make(40, 3)
    seen = forced_logits(parts, {"one": prompt})["one"]
    with torch.inference_mode():
        expected = published.reference(input_ids=torch.tensor([prompt]), use_cache=False).logits[0]
    assert published.narrow > 20
    assert_logits(seen, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_weight_is_that_of_the_widened_model_to_the_last_bit(published: Published, dtype: torch.dtype):
    model = model_load(published.folder, device=CPU, dtype=dtype)
    assert isinstance(model, TransformersModel)
    state = model._trunk._causal.state_dict()
    expected = published.reference.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        # Some stay in fp32 whatever is served, as does the bias by which experts are chosen.
        assert torch.equal(tensor, expected[name].to(tensor.dtype)), name
    assert {tensor.dtype for name, tensor in state.items() if "_proj" in name} == {dtype}


def test_a_scale_that_is_missing_or_does_not_fit_is_named(changed: Published):
    tensors = changed.tensors()
    name = "model.layers.1.mlp.experts.2.up_proj.weight"
    scale = f"{name}_scale_inv"
    changed.write({key: value for key, value in tensors.items() if key != scale})
    error = refusal(changed.folder)
    assert error.code == "weights_missing" and name in error.message and "scale" in error.message
    changed.write(tensors | {scale: torch.ones(7, 1)})
    error = refusal(changed.folder)
    assert error.code == "weights_shape" and name in error.message
    changed.write(tensors | {name: tensors[name].view(torch.int8)})
    error = refusal(changed.folder)
    assert error.code == "weights_dtype" and name in error.message and "int8" in error.message


def test_experts_that_are_stored_in_one_are_widened_one_by_one(changed: Published):
    """With a scale for each, for each row of each, or for each block of each."""
    tensors = {name: tensor for name, tensor in changed.tensors().items() if ".experts." not in name}
    experts = {name: part for name, part in changed.reference.state_dict().items() if ".experts." in name}
    meant = {}
    for at, (name, weight) in enumerate(experts.items()):
        count, rows, columns = weight.shape
        shape = ((count, 1, 1), (count, rows, 1), (count, -(-rows // BLOCK[0]), -(-columns // BLOCK[1])))[
            at % 3
        ]
        scale = torch.rand(shape) * 0.01 + 1e-3
        spread = scale
        if at % 3 == 2:
            spread = scale.repeat_interleave(BLOCK[0], 1)[:, :rows]
            spread = spread.repeat_interleave(BLOCK[1], 2)[:, :, :columns]
        narrow = (weight / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
        tensors |= {name: narrow, f"{name}_scale_inv": scale}
        meant[name] = narrow.float() * spread
    changed.write(tensors)
    model = model_load(changed.folder, device=CPU, dtype=torch.float32)
    assert isinstance(model, TransformersModel) and len(meant) == 4
    state = model._trunk._causal.state_dict()
    for name, tensor in meant.items():
        assert torch.equal(state[name], tensor), name
