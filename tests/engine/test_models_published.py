"""Configurations as published checkpoints spell them: every one is read, and as it is meant."""

import json
from pathlib import Path
from typing import Any

import pytest

from kindling_engine.models.config import DecoderConfig
from kindling_engine.models.registry import FAMILIES, decoder_config


def _sized(hidden: int, inner: int, layers: int, heads: int, kv_heads: int, vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "initializer_range": 0.02,
    }


def _read(folder: Path, architecture: str, fields: dict[str, Any]) -> DecoderConfig:
    fields = {"architectures": [architecture], **fields}
    (folder / "config.json").write_text(json.dumps(fields))
    return decoder_config(folder, architecture, FAMILIES[architecture])


def _windows(config: DecoderConfig) -> set[int | None]:
    return {layer.window for layer in config.layers}


def test_llama_2(tmp_path):
    fields = {
        **_sized(4096, 11008, 32, 32, 32, 32000),
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
    }
    config = _read(tmp_path, "LlamaForCausalLM", fields)
    assert (config.head_dim, config.context_length, config.eos_ids) == (128, 4096, (2,))
    assert config.rotaries[0].theta == 10000.0 and not config.qkv_bias


def test_llama_3_2(tmp_path):
    scaling = {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0}
    fields = {
        **_sized(2048, 8192, 16, 32, 8, 128256),
        "attention_bias": False,
        "mlp_bias": False,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "rope_scaling": {**scaling, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "rope_theta": 500000.0,
        "tie_word_embeddings": True,
        "eos_token_id": [128001, 128008, 128009],
    }
    config = _read(tmp_path, "LlamaForCausalLM", fields)
    rotary = config.rotaries[0]
    assert (rotary.kind, rotary.factor, rotary.original_length) == ("llama3", 32.0, 8192)
    assert config.context_length == 131072 and config.tied_embeddings and len(config.eos_ids) == 3


def test_smollm2(tmp_path):
    fields = {
        **_sized(576, 1536, 30, 9, 3, 49152),
        "is_llama_config": True,
        "attention_bias": False,
        "max_position_embeddings": 8192,
        "rope_interleaved": False,
        "rope_scaling": None,
        "rope_theta": 100000,
        "tie_word_embeddings": True,
    }
    assert _read(tmp_path, "LlamaForCausalLM", fields).rotaries[0].theta == 100000.0


def test_smollm3(tmp_path):
    turned = [0 if (index + 1) % 4 == 0 else 1 for index in range(36)]
    fields = {
        **_sized(2048, 11008, 36, 16, 4, 128256),
        "attention_bias": False,
        "layer_types": ["full_attention"] * 36,
        "max_position_embeddings": 65536,
        "max_window_layers": 28,
        "mlp_bias": False,
        "no_rope_layer_interval": 4,
        "no_rope_layers": turned,
        "pretraining_tp": 2,
        "rope_scaling": None,
        "rope_theta": 5000000.0,
        "sliding_window": None,
        "use_sliding_window": False,
    }
    config = _read(tmp_path, "SmolLM3ForCausalLM", fields)
    assert [layer.rotary is not None for layer in config.layers] == [bool(one) for one in turned]
    assert config.tied_embeddings and _windows(config) == {None}


@pytest.mark.parametrize(("window", "head_dim"), [(4096, None), (None, 128)])
def test_mistral(tmp_path, window, head_dim):
    fields = {
        **_sized(4096, 14336, 32, 32, 8, 32768),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rope_theta": 1000000.0,
        "sliding_window": window,
        "tie_word_embeddings": False,
    }
    config = _read(tmp_path, "MistralForCausalLM", fields)
    assert _windows(config) == {window} and config.context_length == 32768 and config.head_dim == 128


def test_qwen2_5_and_its_yarn(tmp_path):
    fields = {
        **_sized(3584, 18944, 28, 28, 4, 152064),
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "max_window_layers": 28,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
        "use_mrope": False,
        "use_sliding_window": False,
    }
    config = _read(tmp_path, "Qwen2ForCausalLM", fields)
    assert config.qkv_bias and not config.output_bias and _windows(config) == {None}
    # As its model card says to stretch it.
    yarn = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    config = _read(tmp_path, "Qwen2ForCausalLM", {**fields, "rope_scaling": yarn})
    assert config.context_length == 131072


def test_qwen3(tmp_path):
    fields = {
        **_sized(4096, 12288, 36, 32, 8, 151936),
        "attention_bias": False,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "max_window_layers": 36,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": None,
        "use_sliding_window": False,
    }
    config = _read(tmp_path, "Qwen3ForCausalLM", fields)
    assert config.qk_norm and config.context_length == 40960
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = _read(tmp_path, "Qwen3ForCausalLM", {**fields, "rope_scaling": yarn})
    assert config.context_length == 131072


def test_qwen3_moe(tmp_path):
    fields = {
        **_sized(2048, 6144, 48, 32, 4, 151936),
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "max_window_layers": 48,
        "mlp_only_layers": [],
        "moe_intermediate_size": 768,
        "norm_topk_prob": True,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "output_router_logits": False,
        "rope_scaling": None,
        "rope_theta": 1000000.0,
        "router_aux_loss_coef": 0.001,
        "sliding_window": None,
        "use_sliding_window": False,
    }
    config = _read(tmp_path, "Qwen3MoeForCausalLM", fields)
    assert config.experts is not None
    assert (config.experts.count, config.experts.top_k, config.experts.normalised) == (128, 8, True)
    assert all(layer.sparse for layer in config.layers)


def test_gpt_oss(tmp_path):
    yarn = {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096}
    fields = {
        **_sized(2880, 2880, 24, 64, 8, 201088),
        "attention_bias": True,
        "eos_token_id": 200002,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "initial_context_length": 4096,
        "layer_types": ["sliding_attention", "full_attention"] * 12,
        "max_position_embeddings": 131072,
        "num_experts_per_tok": 4,
        "num_local_experts": 32,
        "output_router_logits": False,
        "quantization_config": {"modules_to_not_convert": ["lm_head"], "quant_method": "mxfp4"},
        "rms_norm_eps": 1e-05,
        "rope_scaling": {**yarn, "rope_type": "yarn", "truncate": False},
        "rope_theta": 150000,
        "router_aux_loss_coef": 0.9,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": False,
    }
    config = _read(tmp_path, "GptOssForCausalLM", fields)
    assert [layer.window for layer in config.layers[:3]] == [128, None, 128]
    assert config.experts is not None and config.experts.joined and config.experts.normalised
    assert (config.experts.count, config.experts.intermediate_size, config.experts.top_k) == (32, 2880, 4)
    rotary = config.rotaries[0]
    assert (rotary.theta, rotary.kind, rotary.truncate) == (150000.0, "yarn", False)
    assert config.context_length == 131072 and rotary.attention_factor == pytest.approx(1.3465735902799727)
    assert config.sinks and config.qkv_bias and config.output_bias
    left_out = ("rope_scaling", "rope_theta", "layer_types", "swiglu_limit", "rms_norm_eps", "head_dim")
    shorter = {name: value for name, value in fields.items() if name not in left_out}
    plain = _read(tmp_path, "GptOssForCausalLM", shorter)
    assert (plain.rotaries, plain.layers) == (config.rotaries, config.layers)


def test_gemma_2(tmp_path):
    fields = {
        **_sized(2304, 9216, 26, 8, 4, 256000),
        "attention_bias": False,
        "attn_logit_softcapping": 50.0,
        "cache_implementation": "hybrid",
        "final_logit_softcapping": 30.0,
        "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192,
        "query_pre_attn_scalar": 256,
        "rope_theta": 10000.0,
        "sliding_window": 4096,
    }
    config = _read(tmp_path, "Gemma2ForCausalLM", fields)
    assert [layer.window for layer in config.layers[:3]] == [4096, None, 4096]
    assert (config.attention_softcap, config.logit_softcap) == (50.0, 30.0) and config.tied_embeddings


def test_gemma_3_of_text(tmp_path):
    fields = {
        **_sized(1152, 6912, 26, 4, 1, 262144),
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "cache_implementation": "hybrid",
        "eos_token_id": [1, 106],
        "final_logit_softcapping": None,
        "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 32768,
        "query_pre_attn_scalar": 256,
        "rope_local_base_freq": 10000,
        "rope_scaling": None,
        "rope_theta": 1000000,
        "sliding_window": 512,
        "sliding_window_pattern": 6,
    }
    config = _read(tmp_path, "Gemma3ForCausalLM", fields)
    assert [rotary.theta for rotary in config.rotaries] == [1000000.0, 10000.0]
    assert [layer.window for layer in config.layers[:7]] == [512] * 5 + [None, 512]
    assert [layer.rotary for layer in config.layers[:7]] == [1] * 5 + [0, 1]
    assert config.logit_softcap is None and config.tied_embeddings


def test_gemma_3_that_leaves_almost_everything_out(tmp_path):
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    fields = {"eos_token_id": [1, 106], "model_type": "gemma3", "text_config": text, "vision_config": {}}
    config = _read(tmp_path, "Gemma3ForConditionalGeneration", fields)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.context_length, config.eos_ids) == (262208, 131072, (1, 106))
    assert [rotary.kind for rotary in config.rotaries] == ["linear", "default"] and config.tied_embeddings


def test_phi_4_mini(tmp_path):
    fields = {
        **_sized(3072, 8192, 32, 24, 8, 200064),
        "attention_bias": False,
        "full_attn_mod": 1,
        "hidden_act": "silu",
        "interpolate_factor": 1,
        "lm_head_bias": False,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "rms_norm_eps": 1e-05,
        "rope_scaling": {"long_factor": [2.0] * 48, "short_factor": [1.0] * 48, "type": "longrope"},
        "rope_theta": 10000.0,
        "sliding_window": 262144,
        "tie_word_embeddings": True,
    }
    config = _read(tmp_path, "Phi3ForCausalLM", fields)
    rotary = config.rotaries[0]
    assert (rotary.kind, rotary.dim, config.context_length) == ("longrope", 96, 4096)
    assert rotary.attention_factor == pytest.approx(1.190238)
