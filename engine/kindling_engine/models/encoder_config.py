"""Shape and constants of a bidirectional encoder, read from a Hugging Face folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read, revision_read
from kindling_engine.protocol.embedding_folder import (
    EmbeddingFolderError,
    context_limit,
    embedding_folder_read,
    position_offset,
)

_ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Everything the encoder needs; sizes in elements, ``context_length`` in tokens.

    ``position_offset`` is the number of the first position; ``positions`` is the size of the table.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    head_dim: int
    vocab_size: int
    type_vocab_size: int
    positions: int
    position_offset: int
    context_length: int
    norm_eps: float
    activation: str
    pooling: str
    revision: str
    eos_ids: tuple[int, ...] = ()
    num_kv_heads: int = 0
    num_layers_kv: int = 0
    rotary_limit: None = None
    state_bytes: int = 0
    state_rows: bool = False
    token_bytes: int = 0
    is_encoder: bool = True
    task: Literal["embed"] = "embed"


def encoder_config_load(folder: Path, architecture: str) -> EncoderConfig:
    """Read an encoder's folder; raises ModelError."""
    raw = json_object_read(folder / "config.json")
    try:
        embedding = embedding_folder_read(folder, architecture)
    except EmbeddingFolderError as error:
        raise ModelError("unsupported_model", str(error)) from error
    if embedding is None:
        raise ModelError("unsupported_model", f"Architecture {architecture} is not an encoder.")
    _refuse_unusual(raw)
    try:
        heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
        positions = int(raw["max_position_embeddings"])
        return EncoderConfig(
            architecture=architecture,
            hidden_size=hidden,
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=int(raw["num_hidden_layers"]),
            num_heads=heads,
            head_dim=hidden // heads,
            vocab_size=int(raw["vocab_size"]),
            type_vocab_size=int(raw.get("type_vocab_size", 2)),
            positions=positions,
            position_offset=position_offset(raw, architecture),
            context_length=context_limit(positions, raw, architecture, embedding),
            norm_eps=float(raw.get("layer_norm_eps", 1e-12)),
            activation=str(raw.get("hidden_act", "gelu")),
            pooling=embedding.pooling,
            revision=revision_read(folder),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError("model_config", f"config.json is incomplete or malformed: {error!r}.") from error


def _refuse_unusual(raw: dict[str, Any]) -> None:
    if raw.get("is_decoder"):
        raise ModelError("unsupported_model", "is_decoder is set; an encoder of this kind is not served.")
    kind = raw.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise ModelError(
            "unsupported_model", f"position_embedding_type {kind!r} is not supported; absolute is."
        )
    activation = raw.get("hidden_act", "gelu")
    if activation not in _ACTIVATIONS:
        raise ModelError(
            "unsupported_model",
            f"hidden_act {activation!r} is not supported; {', '.join(_ACTIVATIONS)} are.",
        )
