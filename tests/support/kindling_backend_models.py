"""Tiny random checkpoints of architectures that only transformers has modules for."""

from pathlib import Path
from typing import Any

import torch

from kindling_tiny_models import EOS, VOCAB

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": EOS,
    "bos_token_id": 1,
    "pad_token_id": 0,
    "initializer_range": 0.15,
}
_HALF_ROTATED = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
_THREE_AXES = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]}
LATENT = {
    "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
    "v_head_dim": 16, "moe_intermediate_size": 32, "num_experts_per_tok": 2, "n_shared_experts": 1,
}  # fmt: skip
_GEMMA4 = {
    "head_dim": 16, "global_head_dim": 32, "sliding_window": 24, "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCAB,
}  # fmt: skip
_DELTA = {
    "linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
}  # fmt: skip
_EYE = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip

# Name of the model class in transformers, and what makes its configuration different from the others.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Olmo2ForCausalLM": {},
    "GraniteForCausalLM": {"logits_scaling": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2},
    "GPTNeoXForCausalLM": {"rope_parameters": _HALF_ROTATED},
    "StableLmForCausalLM": {"rope_parameters": _HALF_ROTATED, "qk_layernorm": True},
    "CohereForCausalLM": {"logit_scale": 0.25},
    "Starcoder2ForCausalLM": {"sliding_window": None},
    "GPT2LMHeadModel": {"n_positions": 512},
    "OPTForCausalLM": {"ffn_dim": 112, "word_embed_proj_dim": 64},
    "OlmoeForCausalLM": {"num_experts": 4, "num_experts_per_tok": 2},
    "Cohere2ForCausalLM": {"sliding_window": 24, "layer_types": None},
    "VaultGemmaForCausalLM": {"head_dim": 16, "sliding_window": 24, "query_pre_attn_scalar": 16},
    # Sinks, with and without a window, and a rotation for each layer.
    "GraniteSWAForCausalLM": {"sliding_window": 24, "layer_rope_theta": [0, 10000.0, 5000.0]},
    # Latent attention: keys are wider than values.
    "DeepseekV3ForCausalLM": {**LATENT, "n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    # Heads of two widths, and of two numbers.
    "Gemma4ForCausalLM": {
        **_GEMMA4,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "num_global_key_value_heads": 1,
        "attention_k_eq_v": True,
        "layer_types": 2 * ["sliding_attention", "full_attention"],
    },
    # Attention in chunks.
    "Llama4ForCausalLM": {"num_local_experts": 2, "head_dim": 16, "attention_chunk_size": 256},
    # Layers with a state: beside attention, beside it in the same layer, by convolutions alone, without any attention,
    # and such as take the tokens behind a state one by one.
    "Qwen3NextForCausalLM": {
        **_DELTA,
        "num_hidden_layers": 4,
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "FalconH1ForCausalLM": {
        "mamba_d_ssm": 64,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_n_groups": 1,
        "mamba_d_state": 16,
        "mamba_chunk_size": 8,
        "head_dim": 16,
    },
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention", "conv"]},
    "MambaForCausalLM": {"state_size": 8},
    "JambaForCausalLM": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "mamba_dt_rank": 8,
        "mamba_d_state": 8,
    },
    # Sequence by sequence: biases on scores, keys chosen by an index (fewer than a prompt has, by so many heads that no
    # scores tie at zero), a cache of its own for linear attention, and states within modules.
    "BloomForCausalLM": {"n_head": 4, "tie_word_embeddings": False},
    "DeepseekV32ForCausalLM": {
        **LATENT,
        "num_hidden_layers": 2,
        "n_routed_experts": 4,
        "n_group": 1,
        "topk_group": 1,
        "index_topk": 24,
        "index_n_heads": 32,
        "index_head_dim": 16,
    },
    "MiniMaxForCausalLM": {
        "block_size": 16,
        "head_dim": 16,
        "num_local_experts": 2,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    },
    "RecurrentGemmaForCausalLM": {
        "lru_width": 64,
        "attention_window_size": 24,
        "head_dim": 16,
        "tie_word_embeddings": False,
    },
    # Text of models that see.
    "Mistral3ForConditionalGeneration": {
        "text_config": {},
        "vision_config": {**_EYE, "model_type": "pixtral"},
    },
    "Qwen3VLForConditionalGeneration": {
        "text_config": {"head_dim": 16, "rope_parameters": _THREE_AXES, "model_type": "qwen3_vl_text"},
        "vision_config": {
            **_EYE,
            "depth": 2,
            "num_heads": 2,
            "out_hidden_size": 64,
            "deepstack_visual_indexes": [0],
        },
    },
}


def backend_model_make(architecture: str, folder: Path, *, seed: int = 0, **shape: Any) -> Path:
    """Write a tiny random model of an architecture and return its folder."""
    import transformers

    torch.manual_seed(seed)
    owner = getattr(transformers, architecture)
    values = {**ARCHITECTURES.get(architecture, {}), **shape}
    if "text_config" in values:
        values["text_config"] = {**_SHAPE, **values["text_config"]}
    else:
        values = {**_SHAPE, **values}
    model = owner(owner.config_class(**{key: value for key, value in values.items() if value is not None}))
    model.eval()
    for name, parameter in model.named_parameters():
        # Norms and biases start at one and zero; move them, so that a forgotten one is seen.
        if parameter.dim() == 1 or name.endswith("norm.weight"):
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder
