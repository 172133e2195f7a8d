"""Tiny checkpoints with random weights, written by transformers and PEFT into a folder."""

from pathlib import Path
from typing import Any

import torch

VOCAB = 320
EOS = 2

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
    # Larger than the usual 0.02, so that logits spread and greedy choices are clear.
    "initializer_range": 0.15,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES = ("llama", "llama3", "llama-bias", "mistral", "qwen2", "qwen3")


def model_make(family: str, folder: Path, *, seed: int = 0, **shape: Any) -> Path:
    """Write a tiny model of a family and return its folder; weights are random but for the seed."""
    torch.manual_seed(seed)
    model = _build(family, {**_SHAPE, **shape})
    model.eval()
    for name, parameter in model.named_parameters():
        # Norms and biases start at one and zero; move them, so that a forgotten one is seen.
        if name.endswith(("norm.weight", ".bias")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder, max_shard_size="60KB" if family == "qwen3" else "5GB")
    return folder


def reference_load(folder: Path) -> Any:
    """The checkpoint in transformers, fp32, eager attention."""
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def adapter_make(
    model_folder: Path, folder: Path, *, seed: int = 1, scale: float = 0.1, **config: Any
) -> Path:
    """Write a PEFT adapter whose B is not zero, for the model in ``model_folder``."""
    import peft

    torch.manual_seed(seed)
    model = peft.get_peft_model(
        reference_load(model_folder), peft.LoraConfig(task_type="CAUSAL_LM", **config)
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = scale * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def _build(family: str, shape: dict[str, Any]) -> Any:
    import transformers as t

    if family == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**{"tie_word_embeddings": True, **shape}))
    if family == "llama3":
        return t.LlamaForCausalLM(t.LlamaConfig(rope_parameters=_LLAMA3, tie_word_embeddings=False, **shape))
    if family == "llama-bias":
        return t.LlamaForCausalLM(t.LlamaConfig(attention_bias=True, mlp_bias=True, **shape))
    if family == "mistral":
        return t.MistralForCausalLM(t.MistralConfig(sliding_window=None, **shape))
    if family == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**shape))
    if family == "qwen3":
        return t.Qwen3ForCausalLM(t.Qwen3Config(head_dim=32, **shape))
    raise ValueError(family)
