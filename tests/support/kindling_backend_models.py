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
}


def backend_model_make(architecture: str, folder: Path, *, seed: int = 0, **shape: Any) -> Path:
    """Write a tiny random model of an architecture and return its folder."""
    import transformers

    torch.manual_seed(seed)
    owner = getattr(transformers, architecture)
    values = {**_SHAPE, **ARCHITECTURES.get(architecture, {}), **shape}
    model = owner(owner.config_class(**{key: value for key, value in values.items() if value is not None}))
    model.eval()
    for name, parameter in model.named_parameters():
        # Norms and biases start at one and zero; move them, so that a forgotten one is seen.
        if parameter.dim() == 1 or name.endswith("norm.weight"):
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder
