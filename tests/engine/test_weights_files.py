"""Checkpoints as they come: sharded, narrow, FP8, truncated, incomplete, and in formats that are not served."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.weights import Checkpoint
from kindling_fp8 import fp8_copy
from kindling_tiny_models import model_make, reference_load

CPU = torch.device("cpu")
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    """A tiny model in several files."""
    return model_make("qwen3", tmp_path_factory.mktemp("sharded"))


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> Path:
    """The same in one file."""
    return model_make("llama", tmp_path_factory.mktemp("single"))


@pytest.fixture
def copy(tmp_path: Path, sharded: Path) -> Path:
    return Path(shutil.copytree(sharded, tmp_path / "copy"))


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    return caught.value


def config_change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_shards_are_read_and_progress_is_told(sharded: Path):
    heard: list[tuple[int, int]] = []
    with Checkpoint(
        sharded, dtype=torch.float32, device=CPU, progress=lambda done, total: heard.append((done, total))
    ) as checkpoint:
        for path in sorted(sharded.glob("*.safetensors")):
            for name, tensor in load_file(path).items():
                assert torch.equal(checkpoint.take(name, tuple(tensor.shape)), tensor)
    assert len(list(sharded.glob("*.safetensors"))) > 1
    done = [read for read, _ in heard]
    assert done == sorted(done) and done[0] < done[-1] == heard[-1][1]
    assert {total for _, total in heard} == {sum(p.stat().st_size for p in sharded.glob("*.safetensors"))}


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("served", [torch.bfloat16, torch.float32])
def test_each_plain_dtype_is_read_into_the_serving_one(tmp_path: Path, single: Path, stored, served):
    shutil.copy(single / "config.json", tmp_path)
    tensors = {name: tensor.to(stored) for name, tensor in load_file(single / "model.safetensors").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    with Checkpoint(tmp_path, dtype=served, device=CPU) as checkpoint:
        for name, tensor in tensors.items():
            assert torch.equal(checkpoint.take(name, tuple(tensor.shape)), tensor.to(served))


def test_a_truncated_file_is_named(copy: Path):
    shard = sorted(copy.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    error = refusal(copy)
    assert error.code == "weights_unreadable" and shard.name in error.message


def test_a_file_that_ends_in_its_header_is_named(copy: Path):
    shard = sorted(copy.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:20])
    error = refusal(copy)
    assert error.code == "weights_unreadable" and shard.name in error.message


def test_a_shard_that_the_index_names_must_be_there(copy: Path):
    shard = sorted(copy.glob("*.safetensors"))[2]
    shard.unlink()
    error = refusal(copy)
    assert error.code == "weights_missing" and shard.name in error.message


def test_a_tensor_that_its_shard_lacks_is_named(copy: Path):
    index = json.loads((copy / INDEX).read_text())
    name = "model.layers.1.mlp.down_proj.weight"
    other = next(file for file in index["weight_map"].values() if file != index["weight_map"][name])
    index["weight_map"][name] = other
    (copy / INDEX).write_text(json.dumps(index))
    error = refusal(copy)
    assert error.code == "weights_missing" and name in error.message and other in error.message


def test_a_missing_and_a_misshapen_tensor_are_named(tmp_path: Path, single: Path):
    shutil.copy(single / "config.json", tmp_path)
    tensors = load_file(single / "model.safetensors")
    name = "model.layers.2.self_attn.k_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, tmp_path / "model.safetensors")
    error = refusal(tmp_path)
    assert error.code == "weights_missing" and name in error.message
    save_file(tensors | {name: torch.zeros(32, 63)}, tmp_path / "model.safetensors")
    error = refusal(tmp_path)
    assert error.code == "weights_shape"
    assert all(part in error.message for part in (name, "(32, 63)", "(32, 64)"))


def test_an_index_that_leads_out_of_the_folder_is_not_followed(copy: Path, tmp_path: Path):
    outside = tmp_path / "outside.safetensors"
    save_file({"model.norm.weight": torch.ones(64)}, outside)
    index = json.loads((copy / INDEX).read_text())
    index["weight_map"]["model.norm.weight"] = "../outside.safetensors"
    (copy / INDEX).write_text(json.dumps(index))
    error = refusal(copy)
    assert error.code == "weights_missing" and "outside.safetensors" in error.message


@pytest.mark.parametrize("text", ["{", "[]", '{"weight_map": 3}', "{}"])
def test_a_malformed_index_is_refused(copy: Path, text: str):
    (copy / INDEX).write_text(text)
    assert refusal(copy).code == "weights_index"


@pytest.mark.parametrize(
    ("name", "said"),
    [("pytorch_model.bin", "pickle"), ("model.pth", "pickle"), ("model.Q4_K_M.gguf", "GGUF")],
)
def test_other_formats_are_refused_by_name_and_never_opened(
    tmp_path: Path, single: Path, name: str, said: str
):
    shutil.copy(single / "config.json", tmp_path)
    marker = tmp_path / "ran"
    # A pickle that would leave a trace if anything loaded it.
    command = f"cos\nsystem\n(S'touch {marker}'\ntR."
    (tmp_path / name).write_bytes(command.encode())
    error = refusal(tmp_path)
    assert error.code == "weights_missing" and name in error.message and said in error.message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quant_method": "gptq", "bits": 4}, "GPTQ"),
        ({"quant_method": "awq", "bits": 4}, "AWQ"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "gguf"}, "GGUF"),
        ({"quant_method": "mxfp4"}, "MXFP4"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "compressed-tensors",
        ),
        ({"quant_method": "of-tomorrow"}, "of-tomorrow"),
        ({"bits": 4}, "does not name"),
    ],
)
def test_quantised_formats_are_refused_by_name(
    tmp_path: Path, single: Path, config: dict[str, Any], said: str
):
    folder = Path(shutil.copytree(single, tmp_path / "copy"))
    config_change(folder, quantization_config=config)
    error = refusal(folder)
    assert error.code == "weights_dtype" and said in error.message


def test_integers_in_place_of_weights_are_named(tmp_path: Path, single: Path):
    folder = Path(shutil.copytree(single, tmp_path / "copy"))
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name].to(torch.int8)}, folder / "model.safetensors")
    error = refusal(folder)
    assert error.code == "weights_dtype" and name in error.message and "int8" in error.message


@pytest.mark.parametrize("kind", ["tensor", "row", "block"])
def test_fp8_weights_are_widened_exactly(tmp_path: Path, single: Path, kind: str):
    meant = fp8_copy(single, tmp_path / "fp8", kind)
    with Checkpoint(tmp_path / "fp8", dtype=torch.float32, device=CPU) as checkpoint:
        for name, tensor in meant.items():
            assert torch.equal(checkpoint.take(name, tuple(tensor.shape)), tensor), name
            assert tensor.dim() < 2 or torch.equal(torch.cat(list(checkpoint.rows(name))), tensor), name
    assert model_load(tmp_path / "fp8", device=CPU, dtype=torch.float32).config.num_layers == 3


def test_an_fp8_weight_needs_a_scale_that_fits(tmp_path: Path, single: Path):
    fp8_copy(single, tmp_path / "fp8", "row")
    path = tmp_path / "fp8" / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != f"{name}_scale"}, path)
    error = refusal(tmp_path / "fp8")
    assert error.code == "weights_missing" and name in error.message and "scale" in error.message
    save_file(tensors | {f"{name}_scale": torch.ones(7)}, path)
    error = refusal(tmp_path / "fp8")
    assert error.code == "weights_shape" and name in error.message
    save_file(tensors | {f"{name}_scale": torch.full((64, 1), 127, dtype=torch.uint8)}, path)
    error = refusal(tmp_path / "fp8")
    assert error.code == "weights_dtype" and name in error.message and "exponent" in error.message


def test_the_reference_reads_the_same_shards(sharded: Path):
    reference = reference_load(sharded).state_dict()
    with Checkpoint(sharded, dtype=torch.float32, device=CPU) as checkpoint:
        name = "model.layers.2.mlp.gate_proj.weight"
        assert torch.equal(checkpoint.take(name, tuple(reference[name].shape)), reference[name])
