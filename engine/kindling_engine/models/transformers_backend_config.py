"""What can be told from a checkpoint's configuration before any weight is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindling_engine.models.base import Task
from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read
from kindling_engine.models.quantization import quantization_read
from kindling_engine.protocol.context_lengths import UNBOUNDED_TOKENS

# Layers whose keys are chosen by an index, or kept in an abridged form, which pages do not hold.
_OWN_CACHES = ("indexed", "compressed")
_LENGTH_DEPENDENT_ROTARY = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """The part of a configuration that the engine reads; lengths in tokens.

    ``num_layers`` counts the calls of attention, each of which has keys of its own.
    """

    architecture: str
    hidden_size: int
    num_layers: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    eos_ids: tuple[int, ...]
    revision: str
    is_encoder: bool = False
    rotary_limit: None = None
    state_bytes: int = 0
    state_rows: bool = False
    token_bytes: int = 0
    task: Task = "generate"

    @property
    def num_layers_kv(self) -> int:
        return self.num_layers


def transformers_config_read(folder: Path, architecture: str) -> Any:
    """transformers' own configuration object of a causal model, or of one that sees images beside its text.

    Raises ModelError ``unsupported_model`` for what its configuration shows to be impossible.
    """
    import transformers
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    raw = json_object_read(folder / "config.json")
    quantization_read(raw)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        # transformers raises many kinds of error here; what they share is that this file is the reason.
        if raw.get("auto_map"):
            raise _refused(
                architecture, "it brings code of its own, and no checkpoint's code is run"
            ) from error
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise _refused(
            architecture, f"the installed transformers cannot read its config.json ({said})"
        ) from error
    writers = (MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
    if not any(architecture in names.values() for names in writers):
        reason = (
            "it brings code of its own" if raw.get("auto_map") else "transformers has no causal model of it"
        )
        raise _refused(architecture, reason)
    owner: Any = getattr(transformers, architecture)
    if not isinstance(config, owner.config_class):
        raise _refused(architecture, f"config.json describes a model of type {config.model_type!r}")
    if getattr(config, "is_encoder_decoder", False):
        raise _refused(architecture, "it is an encoder with a decoder")
    # Weights in FP8 are widened while they are read, and to transformers there were none.
    for part in (config, config.get_text_config(decoder=True)):
        part.quantization_config = None
    return config


def layers_check(config: Any, architecture: str) -> None:
    """Raises ModelError for layers whose cache pages cannot be, before any weight is read."""
    config = config.get_text_config(decoder=True)
    kinds = [str(kind) for kind in (getattr(config, "layer_types", None) or ())]
    kinds += [str(kind) for kind in (getattr(config, "layers_block_type", None) or ())]
    for kind in kinds:
        if any(name in kind for name in _OWN_CACHES):
            raise _refused(architecture, f"it has layers of the kind {kind}")


def context_length_read(config: Any, *, keeps_states: bool = False) -> int:
    """Positions that the model was made for; some that keep states name none.

    Rotary scalings that depend on a sequence's length would change the keys of tokens already cached, so there
    the context ends where they set in.
    """
    length = getattr(config, "max_position_embeddings", None) or getattr(config, "max_seq_len", None)
    if length is None and keeps_states:
        return UNBOUNDED_TOKENS
    if not isinstance(length, int) or length < 1:
        raise ModelError("model_config", "config.json does not say how many positions the model has.")
    rotary = getattr(config, "rope_parameters", None)
    for scaling in _scalings(rotary if isinstance(rotary, dict) else {}):
        if scaling.get("rope_type") in _LENGTH_DEPENDENT_ROTARY:
            original = scaling.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            length = min(length, int(original or length))
    return length


def padding_id_read(config: Any) -> int:
    """The token that fills up, which some models give no position of its own; −1 for none."""
    padding = getattr(config.get_text_config(decoder=True), "pad_token_id", None)
    return padding if isinstance(padding, int) else -1


def _scalings(rotary: dict[str, Any]) -> list[dict[str, Any]]:
    """One, or one for each kind of layer."""
    nested = [value for value in rotary.values() if isinstance(value, dict)]
    return nested or [rotary]


def _refused(architecture: str, reason: str) -> ModelError:
    return ModelError("unsupported_model", f"{architecture} is not served: {reason}.")
