"""What transformers' modules cannot be served with our pages: refused by name, and before anything runs wrongly."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_backend_models import backend_model_make
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.loader import adapter_load
from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import model_load
from kindling_engine.models.transformers_backend import TransformersModel, transformers_load
from kindling_engine.models.transformers_backend_observe import Observation
from kindling_engine.models.transformers_backend_sequences import SequencesModel
from kindling_tiny_models import VOCAB, model_make, reference_load

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def olmo(tmp_path_factory) -> Path:
    return backend_model_make("Olmo2ForCausalLM", tmp_path_factory.mktemp("olmo"))


@pytest.fixture
def copy(tmp_path: Path, olmo: Path) -> Path:
    return Path(shutil.copytree(olmo, tmp_path / "copy"))


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        model_load(folder, device=CPU, dtype=torch.float32)
    return caught.value


def config_change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("architecture", "shape", "said"),
    [
        ("BertLMHeadModel", {"is_decoder": False}, "neither causal nor"),
        ("XLMWithLMHeadModel", {"causal": False}, "attention interface"),
        # All of a prompt sees all of it.
        ("CpmAntForCausalLM", {"dim_head": 16, "dim_ff": 112, "prompt_length": 4}, "attention interface"),
    ],
)
def test_what_is_not_causal_is_named(tmp_path: Path, architecture: str, shape: Any, said: str):
    """With what stands in the way of either way to serve it."""
    error = refusal(backend_model_make(architecture, tmp_path, **shape))
    assert error.code == "unsupported_model"
    assert said in error.message and "Nor is it sequence by sequence" in error.message
    assert "logits differ" in error.message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"s_aux": torch.zeros(2), "softcap": 30.0}, "sinks beside a soft cap"),
        ({"s_aux": torch.zeros(1, 2, 4)}, "another form than one for each head"),
        ({"position_bias": torch.zeros(1)}, "position bias"),
        ({"block_indices": torch.zeros(1)}, "sparse attention"),
        ({"attention_mask": torch.zeros(1)}, "mask of its own making"),
        ({"is_causal": False}, "not causal"),
    ],
)
def test_what_a_layer_asks_of_attention_is_named(options: dict[str, Any], said: str):
    states = torch.zeros(1, 2, 3, 4)
    with pytest.raises(ModelError, match=said):
        Observation().attend(torch.nn.Module(), states, states, states, options)


def test_an_encoder_with_a_decoder_is_named(tmp_path: Path):
    import transformers

    config = transformers.BartConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(tmp_path)
    assert "no causal model" in refusal(tmp_path).message
    config_change(tmp_path, architectures=["BartForCausalLM"])
    assert "encoder with a decoder" in refusal(tmp_path).message


def test_code_in_a_checkpoint_is_never_run(copy: Path, tmp_path: Path):
    marker = tmp_path / "ran"
    (copy / "modeling_evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config_change(
        copy,
        architectures=["EvilForCausalLM"],
        model_type="evil",
        auto_map={"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"},
    )
    error = refusal(copy)
    assert error.code == "unsupported_model" and "code of its own" in error.message
    assert not marker.exists()


def test_an_architecture_that_transformers_does_not_know_is_named(copy: Path):
    config_change(copy, architectures=["NextYearForCausalLM"], model_type="next_year")
    error = refusal(copy)
    assert error.code == "unsupported_model" and "NextYearForCausalLM" in error.message


def test_an_architecture_beside_its_config_is_refused(copy: Path):
    config_change(copy, architectures=["GPT2LMHeadModel"])
    assert "'olmo2'" in refusal(copy).message


@pytest.mark.parametrize("value", ["x", [1, "x"], 1.5, {}])
def test_an_end_that_is_no_token_is_named(copy: Path, value: object):
    (copy / "generation_config.json").write_text(json.dumps({"eos_token_id": value}))
    error = refusal(copy)
    assert error.code == "model_config" and "eos_token_id" in error.message


def test_missing_and_misshapen_tensors_are_named(copy: Path):
    path = copy / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.self_attn.v_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, path, {"format": "pt"})
    error = refusal(copy)
    assert error.code == "weights_missing" and name in error.message
    save_file(tensors | {name: torch.zeros(32, 60)}, path, {"format": "pt"})
    error = refusal(copy)
    assert error.code == "weights_shape"
    assert all(part in error.message for part in (name, "(32, 60)", "(32, 64)"))


def test_a_truncated_file_and_a_pickle_are_named(copy: Path):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    error = refusal(copy)
    assert error.code == "weights_unreadable" and path.name in error.message
    path.rename(copy / "pytorch_model.bin")
    error = refusal(copy)
    assert error.code == "weights_missing" and "pickle" in error.message


def test_quantised_checkpoints_are_refused_here_too(copy: Path):
    config_change(copy, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "GPTQ" in refusal(copy).message
    # Where a checkpoint sees images, the part for text may say it.
    config_change(
        copy, quantization_config=None, text_config={"quantization_config": {"quant_method": "awq"}}
    )
    error = refusal(copy)
    assert error.code == "weights_dtype" and "AWQ" in error.message


def test_a_model_whose_logits_differ_through_pages_does_without(
    olmo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Queries lose their scale on the way, as if a family did something that only its own attention knows."""
    from kindling_engine.models import transformers_backend_attention as ours

    attend = ours.PagedStep.attend

    def weaker(self: Any, module: Any, query: torch.Tensor, *rest: Any) -> torch.Tensor:
        return attend(self, module, query * 0.7, *rest)

    monkeypatch.setattr(ours.PagedStep, "attend", weaker)
    model = model_load(olmo, device=CPU, dtype=torch.float32)
    assert isinstance(model, SequencesModel) and "logits differ" in caplog.text
    hooks = [module._forward_hooks for module in model._caches.trunk.module.modules()]
    assert {len(one) for one in hooks} == {0, 1}, "what was tried first still hangs on its layers"


@pytest.mark.parametrize("where", ["observed", "proved"])
def test_a_lack_of_memory_is_no_fault_of_the_model(olmo: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    """The start names what to lower, which it cannot where the model is said not to be served."""
    from kindling_engine.models import transformers_backend as backend
    from kindling_engine.models import transformers_backend_check as check

    def full(*_: Any, **__: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    if where == "observed":
        monkeypatch.setattr(backend, "step_announced", full)
    else:
        monkeypatch.setattr(check, "_paged_logits", full)
    with pytest.raises(RuntimeError, match="allocate memory"):
        model_load(olmo, device=CPU, dtype=torch.float32)


@pytest.mark.parametrize(
    ("architecture", "arm", "target"),
    [
        ("BertLMHeadModel", TransformersModel, "transform.dense"),
        ("RobertaForCausalLM", SequencesModel, "lm_head.dense"),
    ],
)
def test_an_adapter_behind_all_layers_is_refused(tmp_path: Path, architecture: str, arm: type, target: str):
    """Logits are made when the adapters of a step are gone: it would be taken and change nothing."""
    folder = backend_model_make(architecture, tmp_path / "model", is_decoder=True, num_hidden_layers=2)
    model = model_load(folder, device=CPU, dtype=torch.float32)
    assert isinstance(model, arm) and len(model.lora.targets) == 2 * 6
    config = peft.LoraConfig(r=2, target_modules=["query", target])
    peft.get_peft_model(reference_load(folder), config).save_pretrained(tmp_path / "style")
    with pytest.raises(AdapterError, match=target) as caught:
        adapter_load(
            tmp_path / "style", model.lora, architecture=architecture, vocab_size=VOCAB, base_ref="acme/bert",
            max_bytes=1 << 30, device=CPU, dtype=torch.float32,
        )  # fmt: skip
    assert caught.value.code == "target_modules"


def test_scalings_that_depend_on_the_length_end_the_context_where_they_set_in(tmp_path: Path):
    rotary = {
        "rope_type": "dynamic",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    folder = backend_model_make("Olmo2ForCausalLM", tmp_path, rope_parameters=rotary)
    assert model_load(folder, device=CPU, dtype=torch.float32).config.context_length == 128


def test_attention_in_chunks_ends_the_context_with_the_first(tmp_path: Path):
    folder = backend_model_make("Llama4ForCausalLM", tmp_path)
    assert model_load(folder, device=CPU, dtype=torch.float32).config.context_length == 256


def test_every_call_of_attention_has_pages_of_its_own(tmp_path: Path):
    folder = backend_model_make("DiffLlamaForCausalLM", tmp_path)
    config = model_load(folder, device=CPU, dtype=torch.float32).config
    assert (config.num_layers_kv, config.num_kv_heads) == (6, 2)


def test_what_sees_images_takes_no_memory(tmp_path: Path):
    folder = backend_model_make("Mistral3ForConditionalGeneration", tmp_path)
    model = model_load(folder, device=CPU, dtype=torch.float32)
    assert isinstance(model, TransformersModel)
    sizes = {name: parameter.numel() for name, parameter in model._trunk._causal.named_parameters()}
    tower = [size for name, size in sizes.items() if "vision_tower" in name]
    assert len(tower) > 10 and not any(tower)
    assert all(size for name, size in sizes.items() if "language_model" in name)


def test_progress_is_told(olmo: Path):
    heard: list[tuple[int, int]] = []
    transformers_load(
        olmo,
        architecture="Olmo2ForCausalLM",
        device=CPU,
        dtype=torch.float32,
        progress=lambda done, total: heard.append((done, total)),
    )
    size = (olmo / "model.safetensors").stat().st_size
    assert len(heard) > 10 and heard[-1] == (size, size)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)


def test_a_model_of_ours_starts_without_transformers(tmp_path: Path):
    """Its import takes seconds, and a machine that serves Llama need not have it."""
    folder = model_make("llama", tmp_path)
    script = """
import sys
from pathlib import Path
sys.modules["transformers"] = None  # an import would fail
sys.modules["peft"] = None
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import parts_build
folder = Path(sys.argv[1])
parts = parts_build(CoreOptions(folder, folder, "t", folder, device="cpu", threads=1, kv_tokens=64), wake=lambda: None)
print(parts.config.architecture)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout.strip() == "LlamaForCausalLM", done.stderr[-2000:]
