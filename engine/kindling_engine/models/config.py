"""Shape and constants of a decoder, read from a Hugging Face ``config.json``."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kindling_engine.layers.rotary import RotaryConfig
from kindling_engine.models.base import Task
from kindling_engine.models.errors import ModelError


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Everything the decoder needs; sizes in elements, ``context_length`` in tokens."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    norm_eps: float
    rotary: RotaryConfig
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    tied_embeddings: bool
    eos_ids: tuple[int, ...]
    revision: str
    is_encoder: bool = False
    task: Task = "generate"

    @property
    def num_layers_kv(self) -> int:
        return self.num_layers


def config_load(folder: Path, *, qkv_bias: bool | None = None, qk_norm: bool = False) -> DecoderConfig:
    """Read a checkpoint's configuration.

    ``qkv_bias`` fixes what the architecture implies; None takes ``attention_bias`` from the file.
    Raises ModelError for a file that is missing, malformed, or asks for something not built here.
    """
    raw = _json_read(folder / "config.json")
    if raw.get("hidden_act", "silu") != "silu":
        raise ModelError("unsupported_model", f"hidden_act {raw['hidden_act']!r} is not supported; silu is.")
    try:
        heads = int(raw["num_attention_heads"])
        hidden = int(raw["hidden_size"])
        head_dim = int(raw.get("head_dim") or hidden // heads)
        attention_bias = bool(raw.get("attention_bias", False))
        return DecoderConfig(
            architecture=raw["architectures"][0],
            hidden_size=hidden,
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=int(raw["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or heads),
            head_dim=head_dim,
            vocab_size=int(raw["vocab_size"]),
            context_length=_context_length(raw),
            norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            rotary=_rotary(raw, head_dim),
            qkv_bias=attention_bias if qkv_bias is None else qkv_bias,
            output_bias=attention_bias if qkv_bias is None else False,
            mlp_bias=bool(raw.get("mlp_bias", False)),
            qk_norm=qk_norm,
            tied_embeddings=bool(raw.get("tie_word_embeddings", False)),
            eos_ids=_eos_ids(folder, raw),
            revision=_revision(folder),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ModelError("model_config", f"config.json is incomplete or malformed: {error!r}.") from error


def architecture_read(folder: Path) -> str:
    """Name of the checkpoint's architecture."""
    names = _json_read(folder / "config.json").get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelError("model_config", "config.json names no architecture.")
    return names[0]


def _context_length(raw: dict[str, Any]) -> int:
    length = int(raw["max_position_embeddings"])
    window = raw.get("sliding_window")
    # Up to the window's width, sliding and full attention are the same; beyond it we do not go.
    if window and raw.get("use_sliding_window", True):
        length = min(length, int(window))
    return length


def _rotary(raw: dict[str, Any], head_dim: int) -> RotaryConfig:
    """Read both spellings: ``rope_parameters``, and the older ``rope_theta`` with ``rope_scaling``."""
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ("default", "linear", "llama3"):
        raise ModelError("unsupported_model", f"rope scaling {kind!r} is not supported.")
    if float(scaling.get("partial_rotary_factor") or raw.get("partial_rotary_factor") or 1.0) != 1.0:
        raise ModelError("unsupported_model", "partial_rotary_factor is not supported.")
    if head_dim % 2:
        raise ModelError("unsupported_model", f"head_dim {head_dim} is odd.")
    return RotaryConfig(
        theta=float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0),
        kind=kind,
        factor=float(scaling.get("factor") or 1.0),
        low_freq_factor=float(scaling.get("low_freq_factor") or 1.0),
        high_freq_factor=float(scaling.get("high_freq_factor") or 4.0),
        original_context_length=int(scaling.get("original_max_position_embeddings") or 8192),
    )


def _eos_ids(folder: Path, raw: dict[str, Any]) -> tuple[int, ...]:
    path = folder / "generation_config.json"
    value = _json_read(path).get("eos_token_id") if path.exists() else None
    if value is None:
        value = raw.get("eos_token_id")
    if value is None:
        return ()
    return tuple(int(item) for item in value) if isinstance(value, list) else (int(value),)


def _revision(folder: Path) -> str:
    """Identity of the weights inside this process: configuration plus name, size and time of each weight
    file.
    """
    digest = blake2b((folder / "config.json").read_bytes(), digest_size=16)
    for path in sorted(folder.glob("*.safetensors")):
        status = path.stat()
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _json_read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ModelError("model_missing", f"The model folder has no {path.name}.") from error
    except ValueError as error:
        raise ModelError("model_config", f"{path.name} is not valid JSON.") from error
    if not isinstance(value, dict):
        raise ModelError("model_config", f"{path.name} is not a JSON object.")
    return value
