"""GPT-OSS as it is published: experts in MXFP4, widened bit for bit as transformers does it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from kindling_engine.models.config import ExpertsConfig
from kindling_engine.models.errors import ModelError
from kindling_engine.models.expert_weights import expert_weights
from kindling_engine.models.mxfp4 import mxfp4_widen
from kindling_engine.models.registry import model_load
from kindling_engine.models.weights import Checkpoint
from kindling_engine.verify.ours import Answered
from kindling_engine.verify.reference import reference_logits
from kindling_mxfp4 import PROJECTIONS, mxfp4_folder
from kindling_parity import assert_logits, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import model_make

CPU = torch.device("cpu")
HIDDEN, INNER, EXPERTS = 64, 96, 6
GATE_UP = "model.layers.1.mlp.experts.gate_up_proj"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mxfp4")
    return mxfp4_folder(model_make("gpt-oss", folder, hidden_size=HIDDEN, intermediate_size=INNER))


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """One that may be spoiled."""
    for file in made.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def _tensors_change(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    tensors: dict[str, Any] = load_file(folder / "model.safetensors") | changes
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def _refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    return caught.value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_every_byte_under_every_scale_is_as_transformers_widens_it(dtype: torch.dtype):
    blocks = torch.arange(256, dtype=torch.uint8).view(16, 1, 16).repeat_interleave(255, 1)
    scales = torch.arange(255, dtype=torch.uint8).expand(16, 255)
    expected = convert_moe_packed_tensors(blocks[None], scales[None], dtype=dtype)[0].t()
    found = mxfp4_widen(blocks, scales).to(dtype)
    assert found.shape == (16, 255 * 32) and torch.equal(found, expected)
    assert expected.isfinite().float().mean() > 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_checkpoints_experts_are_read_as_transformers_reads_them(made: Path, dtype: torch.dtype):
    stored = load_file(made / "model.safetensors")
    both, down = (
        convert_moe_packed_tensors(stored[f"{name}_blocks"], stored[f"{name}_scales"], dtype=dtype)
        for name in (f"model.layers.1.{projection}" for projection in PROJECTIONS)
    )
    config = ExpertsConfig(EXPERTS, INNER, 2, normalised=True, joined=True)
    with Checkpoint(made, dtype=dtype, device=CPU) as checkpoint:
        read = expert_weights(checkpoint, "model.layers.1.mlp.", config, HIDDEN)
        gate_up, downs = torch.stack(list(read.gate_up)), torch.stack(list(read.down))
    assert gate_up.dtype == downs.dtype == dtype
    assert torch.equal(gate_up, torch.cat((both[..., 0::2], both[..., 1::2]), dim=-1).transpose(1, 2))
    assert torch.equal(downs, down.transpose(1, 2))


def test_logits_are_those_of_transformers(made: Path, tmp_path: Path):
    prompts = {f"p{length}": prompt_make(length, length) for length in (3, 90)}
    ours = forced_logits(engine_parts(made, tmp_path, step_tokens=24, kv_tokens=512), prompts)
    answered = [Answered(tokens, []) for tokens in prompts.values()]
    said = {"architecture": "GptOssForCausalLM", "dtype": torch.float32, "device": CPU}
    expected = reference_logits(made, answered, **said, say=lambda line: None)
    for name, logits in zip(prompts, expected, strict=True):
        assert_logits(ours[name], logits, name)


@pytest.mark.parametrize("widened", [False, True])
def test_blocks_are_told_by_their_scales_whatever_the_config_says(made: Path, folder: Path, widened: bool):
    """What transformers saves of blocks that it has widened keeps their name and has no scales."""
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    if widened:
        stored = load_file(folder / "model.safetensors")
        for blocks in [name for name in stored if name.endswith("_blocks")]:
            scales = blocks.replace("_blocks", "_scales")
            whole = convert_moe_packed_tensors(stored[blocks], stored[scales], dtype=torch.float32)
            _tensors_change(folder, {blocks: whole.contiguous(), scales: None})
    config = ExpertsConfig(EXPERTS, INNER, 2, normalised=True, joined=True)
    read = []
    for one in (made, folder):
        with Checkpoint(one, dtype=torch.float32, device=CPU) as checkpoint:
            experts = expert_weights(checkpoint, "model.layers.1.mlp.", config, HIDDEN)
            read.append([*experts.gate_up, *experts.down])
    assert len(read[0]) == 2 * EXPERTS and all(map(torch.equal, *read))


@pytest.mark.parametrize(
    ("spoiled", "code", "named"),
    [
        ({f"{GATE_UP}_scales": None}, "weights_missing", f"{GATE_UP}_scales"),
        ({f"{GATE_UP}_blocks": None}, "weights_missing", f"{GATE_UP}_blocks"),
        (
            {f"{GATE_UP}_scales": torch.full((EXPERTS, 2 * INNER, 3), 127, dtype=torch.uint8)},
            "weights_shape",
            f"{GATE_UP}_scales",
        ),
        (
            {f"{GATE_UP}_blocks": torch.zeros(EXPERTS, 2 * INNER, HIDDEN // 2, dtype=torch.uint8)},
            "weights_shape",
            f"{GATE_UP}_blocks",
        ),
        (
            {f"{GATE_UP}_blocks": torch.zeros(EXPERTS, 2 * INNER, 2, 16, dtype=torch.int8)},
            "weights_dtype",
            f"{GATE_UP}_blocks is int8",
        ),
        (
            {f"{GATE_UP}_scales": torch.full((EXPERTS, 2 * INNER, 2), 255, dtype=torch.uint8)},
            "weights_dtype",
            GATE_UP,
        ),
        ({f"{GATE_UP}_bias": None}, "weights_missing", f"{GATE_UP}_bias"),
    ],
    ids=["no scales", "no blocks", "scales", "blocks", "no bytes", "no number", "no bias"],
)
def test_what_is_missing_or_does_not_fit_is_named(
    folder: Path, spoiled: dict[str, torch.Tensor | None], code: str, named: str
):
    _tensors_change(folder, spoiled)
    error = _refusal(folder)
    assert error.code == code and named in error.message


def test_rows_that_do_not_divide_into_blocks_are_refused(tmp_path: Path):
    folder = model_make("gpt-oss", tmp_path, intermediate_size=80)
    tensors = load_file(folder / "model.safetensors")
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(
        config.replace("{", '{"quantization_config": {"quant_method": "mxfp4"},', 1)
    )
    # Those that are not packed are read as they are.
    assert model_load(folder, device=CPU, dtype=torch.float32).config.num_layers == 3
    name = "model.layers.0.mlp.experts.down_proj"
    assert tensors[name].shape == (EXPERTS, 80, HIDDEN)
    _tensors_change(folder, {name: None})
    error = _refusal(folder)
    assert error.code == "weights_shape" and name in error.message
