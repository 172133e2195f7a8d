"""Checkpoints that cannot be served: the tensor or the field at fault is named, and nothing is half applied."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kindling_engine.models.errors import ModelError
from kindling_engine.models.registry import FAMILIES, decoder_config, model_load
from kindling_tiny_models import MODELS, model_make


class Folder:
    """A checkpoint that can be spoiled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config = json.loads((path / "config.json").read_text())

    def config_write(self, changes: dict[str, Any]) -> None:
        """The configuration as it was made, but for the changes; None takes a field away."""
        merged = {name: value for name, value in (self._config | changes).items() if value is not None}
        (self.path / "config.json").write_text(json.dumps(merged))

    def refusal(self, **changes: Any) -> ModelError:
        self.config_write(changes)
        with pytest.raises(ModelError) as caught:
            model_load(self.path, device=torch.device("cpu"), dtype=torch.float32)
        return caught.value

    def tensors_change(self, **changes: torch.Tensor | None) -> None:
        """Replace tensors by name, written with _ for dots; None takes one away."""
        file = self.path / "model.safetensors"
        tensors = load_file(file)
        for name, value in changes.items():
            if value is None:
                del tensors[name.replace("__", ".")]
            else:
                tensors[name.replace("__", ".")] = value
        save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture
def llama(tmp_path) -> Folder:
    return Folder(model_make("llama", tmp_path))


NOT_LLAMA = {
    "attention_chunk_size": 128,
    "attn_logit_softcapping": 30.0,
    "clip_qkv": 8.0,
    "embedding_multiplier": 12.0,
    "final_logit_softcapping": 30.0,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    "logit_scale": 0.0625,
    "num_local_experts": 8,
    "partial_rotary_factor": 0.5,
    "qkv_bias": True,
    "query_pre_attn_scalar": 64,
    "residual_multiplier": 0.2,
    "rope_interleaved": True,
    "sliding_window": 64,
    "use_bidirectional_attention": True,
    "use_parallel_residual": True,
    "use_qk_norm": True,
    "kv_lora_rank": 32,
    "swiglu_limit": 7.0,
}


@pytest.mark.parametrize(("field", "value"), NOT_LLAMA.items(), ids=NOT_LLAMA)
def test_a_field_that_would_change_the_numbers_is_refused_by_name(llama, field, value):
    error = llama.refusal(**{field: value})
    assert error.code == "unsupported_model"
    assert field in error.message and "LlamaForCausalLM" in error.message


NEUTRAL = {
    "attention_bias": False,
    "layer_types": ["full_attention"] * 3,
    "logit_scale": 1.0,
    "pretraining_tp": 2,
    "sliding_window": None,
    "partial_rotary_factor": 1.0,
    "attention_dropout": 0.1,
}


@pytest.mark.parametrize(("field", "value"), NEUTRAL.items(), ids=NEUTRAL)
def test_a_field_that_asks_for_nothing_is_taken(llama, field, value):
    family = FAMILIES["LlamaForCausalLM"]
    llama.config_write({})
    without = decoder_config(llama.path, "LlamaForCausalLM", family)
    llama.config_write({field: value})
    found = decoder_config(llama.path, "LlamaForCausalLM", family)
    assert replace(found, revision=without.revision) == without


WRONG_KIND = {
    "hidden_size": "wide",
    "num_hidden_layers": 10**9,
    "num_attention_heads": 0,
    "num_key_value_heads": 3,
    "intermediate_size": 112.5,
    "rms_norm_eps": -1e-6,
    "vocab_size": True,
    "tie_word_embeddings": "yes",
    "max_position_embeddings": None,
    "rope_parameters": "llama3",
}


@pytest.mark.parametrize(("field", "value"), WRONG_KIND.items(), ids=WRONG_KIND)
def test_a_field_of_the_wrong_kind_is_named(llama, field, value):
    error = llama.refusal(**{field: value})
    assert error.code == "model_config"
    shown = "key-value heads" if field == "num_key_value_heads" else field
    assert shown in error.message


def test_end_tokens_that_are_no_tokens_are_refused(llama):
    (llama.path / "generation_config.json").write_text('{"eos_token_id": ["</s>"]}')
    assert "eos_token_id" in llama.refusal().message


ROTARY = [
    ({"rope_type": "proportional", "factor": 2.0}, "unsupported_model", "proportional"),
    ({"rope_type": "default", "mrope_section": [4, 2, 2]}, "unsupported_model", "mrope_section"),
    ({"rope_type": "default", "partial_rotary_factor": 0.25}, "unsupported_model", "partial_rotary_factor"),
    ({"full_attention": {"rope_type": "default"}}, "unsupported_model", "differ between layers"),
    ({"rope_type": "linear"}, "model_config", "factor"),
    ({"rope_type": "yarn", "factor": 0.0}, "model_config", "factor"),
    ({"rope_type": "yarn", "factor": 2.0, "truncate": 1}, "model_config", "truncate"),
    ({"rope_type": "longrope", "short_factor": [1.0]}, "model_config", "short_factor"),
    ({"rope_type": "default", "rope_theta": -5.0}, "model_config", "rope_theta"),
    ({"rope_type": "default", "rope_theta": 1.0}, "model_config", "division by zero"),
]


@pytest.mark.parametrize(("rope", "code", "named"), ROTARY, ids=[row[2] + "-" + row[1] for row in ROTARY])
def test_rotary_embedding_that_is_not_built_is_refused(llama, rope, code, named):
    error = llama.refusal(rope_parameters=rope)
    assert (error.code, named in error.message) == (code, True)


def test_an_activation_that_is_not_built_is_refused(llama):
    error = llama.refusal(hidden_act="quick_gelu")
    assert error.code == "unsupported_model" and "quick_gelu" in error.message


def test_a_window_without_a_width_is_refused(tmp_path):
    folder = Folder(model_make("qwen2-window", tmp_path))
    assert "sliding_window" in folder.refusal(sliding_window=None).message
    types = ["full_attention", "linear_attention", "full_attention"]
    assert "linear_attention" in folder.refusal(layer_types=types).message
    assert "layer_types" in folder.refusal(layer_types=types[:2]).message


def test_a_text_that_sees_both_ways_is_refused_inside_a_section_too(tmp_path):
    folder = Folder(model_make("gemma3-vision", tmp_path))
    text = json.loads((tmp_path / "config.json").read_text())["text_config"]
    error = folder.refusal(text_config={**text, "use_bidirectional_attention": True})
    assert error.code == "unsupported_model" and "use_bidirectional_attention" in error.message
    assert "text_config" in folder.refusal(text_config=[1]).message


def test_more_experts_per_token_than_there_are_is_refused(tmp_path):
    folder = Folder(model_make("qwen3-moe", tmp_path))
    assert folder.refusal(num_experts_per_tok=7).code == "model_config"


@pytest.mark.parametrize(
    ("field", "value"), [("swiglu_limit", 5.0), ("swiglu_alpha", 1.0), ("hidden_act", "gelu")]
)
def test_another_gate_than_gpt_oss_has_is_refused(tmp_path, field, value):
    folder = Folder(model_make("gpt-oss", tmp_path))
    error = folder.refusal(**{field: value})
    assert error.code == "unsupported_model" and field in error.message
    assert folder.refusal(num_experts_per_tok=7).code == "model_config"


@pytest.mark.parametrize("name", [name for name in MODELS if name != "qwen3"])  # that one is in shards
def test_a_missing_tensor_is_named(tmp_path, name):
    folder = Folder(model_make(name, tmp_path, seed=3))
    missing = sorted(load_file(tmp_path / "model.safetensors"))
    missing = [key for key in missing if "layers.1." in key and "vision" not in key]
    gone = missing[len(missing) // 2]
    folder.tensors_change(**{gone.replace(".", "__"): None})
    error = folder.refusal()
    assert error.code == "weights_missing" and gone in error.message


def test_a_tensor_of_another_shape_is_named(llama):
    assert llama.refusal(num_hidden_layers=9).code == "weights_missing"
    assert llama.refusal(intermediate_size=96).code == "weights_shape"
    name = "model.layers.1.mlp.up_proj.weight"
    llama.tensors_change(**{name.replace(".", "__"): torch.zeros(112, 63)})
    error = llama.refusal()
    assert error.code == "weights_shape"
    assert name in error.message and "(112, 63)" in error.message and "(112, 64)" in error.message


def test_a_tensor_that_nothing_reads_is_named(llama):
    extra = {
        "model__layers__0__self_attn__rotary_emb__inv_freq": torch.ones(8),
        "model__layers__0__self_attn__k_proj__k_scale": torch.ones(1),
        "model__layers__3__eh_proj__weight": torch.ones(4, 4),
        "model__layers__1__self_attn__q_proj__bias": torch.zeros(64),
        "model__layers__1__self_attn__sinks": torch.zeros(4),
    }
    llama.tensors_change(**extra)
    model_load(llama.path, device=torch.device("cpu"), dtype=torch.float32)
    llama.tensors_change(model__layers__1__self_attn__q_proj__bias=torch.ones(64))
    error = llama.refusal()
    assert error.code == "unsupported_model" and "model.layers.1.self_attn.q_proj.bias" in error.message
    llama.tensors_change(
        model__layers__1__self_attn__q_proj__bias=None, model__layers__1__self_attn__sinks=torch.ones(4)
    )
    assert "model.layers.1.self_attn.sinks" in llama.refusal().message


def test_a_router_of_another_size_is_named(tmp_path):
    folder = Folder(model_make("qwen3-moe", tmp_path))
    error = folder.refusal(num_local_experts=5)
    assert error.code == "weights_shape" and "mlp.gate.weight" in error.message


def test_a_file_that_is_no_checkpoint_is_refused(llama):
    (llama.path / "model.safetensors").write_bytes(b"\xff" * 64)
    assert llama.refusal().code == "weights_unreadable"
    (llama.path / "model.safetensors").unlink()
    assert llama.refusal().code == "weights_missing"
