"""Tiny checkpoints with random weights, written by transformers and PEFT into a folder.

``MODELS`` is the matrix of decoders: a line here puts an architecture, or a trait of one, under every test of
tests/engine/test_models_parity.py.
"""

import hashlib
import json
import shutil
import tempfile
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
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
# The trained length of stretched rotary embeddings; prompts of the tests are longer and shorter than that.
_TRAINED = 64


@dataclass(frozen=True)
class TinyModel:
    """transformers' names of a model and its configuration, and what the configuration is given."""

    architecture: str
    config: str
    fields: dict[str, Any]


def _tiny(family: str, /, **fields: Any) -> TinyModel:
    return TinyModel(f"{family}ForCausalLM", f"{family}Config", fields)


def _rope(kind: str, **fields: Any) -> dict[str, Any]:
    return {"rope_type": kind, "rope_theta": 10000.0, **fields}


_LLAMA3 = _rope(
    "llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=_TRAINED
)
_YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=_TRAINED)
_MSCALE = {**_YARN, "factor": 8.0, "mscale": 0.7, "mscale_all_dim": 1.2, "beta_fast": 16, "truncate": False}
_LONGROPE = _rope("longrope", short_factor=[1.0 + 0.1 * i for i in range(8)], long_factor=[3.0] * 8)
_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40, "head_dim": 32}
_GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 24, "sliding_window": 24}
_GEMMA3 = {**_GEMMA, "sliding_window_pattern": 2}
_OSS = {"num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 16, "sliding_window": 24}
_OSS_YARN = {**_YARN, "rope_theta": 150000.0, "factor": 8.0, "truncate": False}
_VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}

MODELS: dict[str, TinyModel] = {
    "llama": _tiny("Llama", tie_word_embeddings=True),
    "llama-bias": _tiny("Llama", attention_bias=True, mlp_bias=True, head_dim=24),
    "llama3": _tiny("Llama", rope_parameters=_LLAMA3),
    "llama-linear": _tiny("Llama", rope_parameters=_rope("linear", factor=3.0), hidden_act="gelu"),
    "llama-dynamic": _tiny(
        "Llama", rope_parameters=_rope("dynamic", factor=4.0), max_position_embeddings=_TRAINED
    ),
    "llama-yarn": _tiny("Llama", rope_parameters=_YARN, max_position_embeddings=4 * _TRAINED),
    "smollm3": _tiny("SmolLM3", no_rope_layer_interval=2),
    "smollm3-window": _tiny("SmolLM3", no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=21),
    "mistral": _tiny("Mistral", sliding_window=None),
    "mistral-window": _tiny("Mistral", sliding_window=27),
    "qwen2": _tiny("Qwen2", sliding_window=8),
    "qwen2-window": _tiny("Qwen2", use_sliding_window=True, sliding_window=20, max_window_layers=1),
    "qwen3": _tiny("Qwen3", head_dim=32),
    "qwen3-yarn": _tiny("Qwen3", head_dim=32, rope_parameters=_MSCALE, max_position_embeddings=8 * _TRAINED),
    "qwen3-moe": _tiny("Qwen3Moe", **_EXPERTS, norm_topk_prob=True, mlp_only_layers=[1]),
    "qwen3-moe-step": _tiny(
        "Qwen3Moe", **_EXPERTS, decoder_sparse_step=2, use_sliding_window=True, sliding_window=30
    ),
    "gemma2": _tiny("Gemma2", **_GEMMA, attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
    "gemma3": TinyModel("Gemma3ForCausalLM", "Gemma3TextConfig", {**_GEMMA3, "final_logit_softcapping": 9.0}),
    "gemma3-vision": TinyModel(
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {
            "text_config": {**_GEMMA3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            "vision_config": {**_VISION, "image_size": 28, "patch_size": 14},
            "mm_tokens_per_image": 4,
        },
    ),
    "phi3": _tiny("Phi3", partial_rotary_factor=0.5, sliding_window=40),
    "phi3-longrope": _tiny("Phi3", rope_parameters=_LONGROPE, original_max_position_embeddings=256),
    "gpt-oss": _tiny("GptOss", **_OSS, rope_parameters=_OSS_YARN, max_position_embeddings=8 * _TRAINED),
}


def model_make(name: str, folder: Path, *, seed: int = 0, **shape: Any) -> Path:
    """Write a tiny model of the matrix and return its folder; weights are random but for the seed.

    One that was asked for before is copied: making it takes as long as many a test of it.
    """
    asked = json.dumps([name, seed, shape], sort_keys=True)
    if asked not in _made:
        kept = Path(_shelf().name) / str(len(_made))
        _model_write(name, kept, seed, shape)
        # The random numbers go on as after the making.
        _made[asked] = kept, torch.get_rng_state()
    kept, state = _made[asked]
    torch.set_rng_state(state)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return folder


_made: dict[str, tuple[Path, torch.Tensor]] = {}


@cache
def _shelf() -> tempfile.TemporaryDirectory[str]:
    """Where the models lie until this process ends."""
    return tempfile.TemporaryDirectory(prefix="kindling-models-")


def _model_write(name: str, folder: Path, seed: int, shape: dict[str, Any]) -> None:
    import transformers

    tiny = MODELS[name]
    torch.manual_seed(seed)
    config = getattr(transformers, tiny.config)(**_fields(tiny, shape))
    model = getattr(transformers, tiny.architecture)(config).eval()
    for parameter_name, parameter in model.named_parameters():
        # Norms and biases start at one and zero; move them, so that a forgotten one is seen.
        if parameter_name.endswith(("norm.weight", "bias", "sinks")):
            parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder, max_shard_size="60KB" if name == "qwen3" else "5GB")


def reference_load(folder: Path) -> Any:
    """The checkpoint in transformers, fp32, eager attention; a copy, where the same was read before."""
    digest = hashlib.sha256()
    for file in (folder / "config.json", *sorted(folder.glob("*.safetensors"))):
        digest.update(file.read_bytes())
    read = digest.hexdigest()
    if read not in _read:
        if len(_read) >= READ_AT_MOST:
            _read.clear()
        # Whether it is read or copied, the random numbers go on alike.
        with torch.random.fork_rng(devices=[]):
            _read[read] = _reference_read(folder)
    return deepcopy(_read[read])


READ_AT_MOST = 16
_read: dict[str, Any] = {}


def _reference_read(folder: Path) -> Any:
    import transformers

    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    return (
        getattr(transformers, architecture)
        .from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
        .eval()
    )


def reference_logits(model: Any, tokens: list[int], made: int = 0) -> torch.Tensor:
    """transformers' logits ``[tokens, vocab]``, the last ``made`` tokens given one by one as it generates them.

    Dynamic scaling makes a difference of that; elsewhere one pass does the same, and sooner.
    """
    dynamic = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type") == "dynamic"
    with torch.inference_mode():
        if not dynamic:
            return model(torch.tensor([tokens]), use_cache=False).logits[0]
        # A short pass takes back what an earlier, longer sequence left behind.
        model(torch.tensor([tokens[:1]]), use_cache=False)
        prompt = len(tokens) - made
        output = model(torch.tensor([tokens[:prompt]]), use_cache=True)
        parts = [output.logits[0]]
        for token in tokens[prompt:]:
            output = model(torch.tensor([[token]]), past_key_values=output.past_key_values, use_cache=True)
            parts.append(output.logits[0])
        return torch.cat(parts)


def adapter_make(
    model_folder: Path, folder: Path, *, seed: int = 1, scale: float = 0.1, **config: Any
) -> Path:
    """Write a PEFT adapter that changes what it targets, for the model in ``model_folder``."""
    import peft

    torch.manual_seed(seed)
    model = peft.get_peft_model(
        reference_load(model_folder), peft.LoraConfig(task_type="CAUSAL_LM", **config)
    )
    for name, parameter in model.named_parameters():
        # PEFT starts with zeros there; in place, as tied matrices share their memory.
        if "lora_B" in name or "lora_embedding_A" in name:
            parameter.data.copy_(scale * torch.randn_like(parameter))
        if "lora_magnitude_vector" in name:
            parameter.data.mul_(1 + scale * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return folder


def _fields(tiny: TinyModel, shape: dict[str, Any]) -> dict[str, Any]:
    """A model that also sees has the shape inside, with its text."""
    if "text_config" in tiny.fields:
        return {**tiny.fields, "text_config": {**_SHAPE, **tiny.fields["text_config"], **shape}}
    return {**_SHAPE, **tiny.fields, **shape}
