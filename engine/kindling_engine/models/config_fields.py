"""A checkpoint's configuration, read field by field; what would change its numbers is read or refused."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read, revision_read

# Fields that change what a model computes, somewhere, and the values that leave it alone; None always does.
# Whichever of them a family does not read must hold such a value.
_NEUTRAL: dict[str, tuple[object, ...]] = {
    # attention
    "attention_bias": (False,), "qkv_bias": (False,), "use_qkv_bias": (False,), "use_bias": (False,),
    "bias": (False,), "attention_out_bias": (False,), "attn_logit_softcapping": (), "clip_qkv": (),
    "query_pre_attn_scalar": (), "attention_multiplier": (), "use_qk_norm": (False,), "qk_norm": (False,),
    "qk_layernorm": (False,), "use_qk_layernorm": (False,), "use_bidirectional_attention": (False,),
    "is_causal": (True,), "attn_output_gate": (False,), "use_gating": (False,),
    "attention_sink": (False,), "attention_sinks": (False,), "attn_temperature_tuning": (False, 0),
    "attention_chunk_size": (), "sliding_window": (), "use_sliding_window": (False,),
    "sliding_window_pattern": (), "_sliding_window_pattern": (), "layer_types": (), "kv_lora_rank": (),
    "q_lora_rank": (), "v_head_dim": (), "qk_nope_head_dim": (), "num_kv_shared_layers": (0,),
    "attn_config": (), "multi_query": (False,), "multi_query_attention": (False,), "linear_attn_config": (),
    # positions
    "partial_rotary_factor": (1,), "rotary_pct": (1,), "rotary_percent": (1,), "rotary_dim": (),
    "rope_ratio": (1,), "rope_interleaved": (False,), "rope_interleave": (False,), "use_rope": (True,),
    "no_rope_layers": ([],), "no_rope_layer_interval": (0,), "rope_local_base_freq": (),
    "local_rope_theta": (), "global_rope_theta": (), "use_mrope": (False,), "mrope_section": (),
    "position_embedding_type": ("rope", "rotary"), "alibi": (False,), "use_alibi": (False,),
    # layers and norms
    "mlp_bias": (False,), "use_parallel_residual": (False,), "parallel_residual": (False,),
    "parallel_attn": (False,), "residual_multiplier": (1,), "scale_depth": (), "layer_norm_type": ("rmsnorm",),
    "norm_type": ("rmsnorm", "rms_norm"), "use_rms_norm": (True,), "apply_residual_connection_post_layernorm": (False,),
    "norm_reorder": (False,), "use_post_norm": (False,), "hidden_size_per_layer_input": (0,),
    "altup_num_inputs": (), "laurel_rank": (), "layer_scale": (False,),
    # embeddings and logits
    "embedding_multiplier": (1,), "scale_emb": (1,), "scale_embedding": (False,), "logit_scale": (1,),
    "logits_scaling": (1,), "lm_head_multiplier": (1,), "dim_model_base": (), "final_logit_softcapping": (),
    "logits_soft_cap": (), "use_mup": (False,), "mup_enabled": (False,), "lm_head_bias": (False,),
    # mixtures of experts
    "num_experts": (0,), "num_local_experts": (0,), "n_routed_experts": (0,), "moe_num_experts": (0,),
    "n_shared_experts": (0,), "num_shared_experts": (0,), "shared_expert_intermediate_size": (0,),
    "moe_intermediate_size": (), "mlp_only_layers": ([],), "first_k_dense_replace": (0,), "n_group": (1,),
    "topk_group": (1,), "routed_scaling_factor": (1,), "scoring_func": ("softmax",),
    "norm_topk_prob": (False,), "swiglu_alpha": (), "swiglu_limit": (),
}  # fmt: skip


class ConfigFields:
    """Fields by name, with a family's own defaults for those that a file leaves out.

    Every reader raises ModelError that names the field. Null stands for "not set", as a default may not.
    """

    def __init__(self, folder: Path, values: Mapping[str, Any], architecture: str) -> None:
        self.folder = folder
        self.architecture = architecture
        self._values = dict(values)
        self._read: set[str] = set()
        self._sections: list[ConfigFields] = []

    @classmethod
    def of_folder(cls, folder: Path, architecture: str) -> "ConfigFields":
        return cls(folder, json_object_read(folder / "config.json"), architecture)

    @property
    def revision(self) -> str:
        return revision_read(self.folder)

    def default(self, **defaults: Any) -> "ConfigFields":
        """Take these values for fields that the file leaves out, and return the same object."""
        self._values = {**defaults, **self._values}
        return self

    def section(self, name: str, *inherited: str) -> "ConfigFields":
        """The fields of an object inside; those ``inherited`` that it leaves out are as around it."""
        inner = ConfigFields(self.folder, self.mapping(name), self.architecture)
        self._sections.append(inner)
        return inner.default(**{key: self._values[key] for key in inherited if key in self._values})

    def any(self, name: str) -> Any:
        self._read.add(name)
        return self._values.get(name)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object, empty if left out."""
        value = self.any(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise malformed(name, "an object", value)
        return value

    def count(self, name: str, default: int | None = None, *, low: int = 1, high: int = 1 << 31) -> int:
        """A whole number; required when there is no default."""
        value = self.any(name)
        if value is None and default is not None:
            return default
        # Some files write whole numbers as 8192.0.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise malformed(name, f"a whole number from {low} to {high}", value)
        return value

    def count_or_none(self, name: str) -> int | None:
        return None if self.any(name) is None else self.count(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A finite number above zero; required when there is no default."""
        value = self.any(name)
        return default if value is None and default is not None else number_check(name, value)

    def number_or_none(self, name: str) -> float | None:
        return None if self.any(name) is None else self.number(name)

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.any(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise malformed(name, "true or false", value)
        return value

    def text(self, name: str, default: str) -> str:
        value = self.any(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise malformed(name, "a string", value)
        return value

    def counts(self, name: str) -> list[int] | None:
        """A list of whole numbers, or None if left out."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise malformed(name, "a list of whole numbers", value)
        return value

    def texts(self, name: str, length: int) -> list[str] | None:
        """A list of ``length`` strings, or None if left out."""
        value = self.any(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise malformed(name, "a list of strings", value)
        if len(value) != length:
            raise ModelError(
                "model_config", f"config.json: {name} has {len(value)} entries for {length} layers."
            )
        return value

    def refuse_unread(self) -> None:
        """Refuse a field that asks for something which the family has not read, and so does not do."""
        for name in sorted(_NEUTRAL.keys() - self._read):
            value = self._values.get(name)
            if value is not None and value not in _NEUTRAL[name] and not _plain_layers(name, value):
                raise ModelError(
                    "unsupported_model",
                    f"config.json asks for {name} = {_shown(value)}, which is not supported for {self.architecture}.",
                )
        for section in self._sections:
            section.refuse_unread()


def number_check(name: str, value: Any) -> float:
    """``value`` as a finite number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 < value < math.inf):
        raise malformed(name, "a number above zero", value)
    return float(value)


def malformed(name: str, wanted: str, value: Any) -> ModelError:
    """The refusal of a field of the wrong kind."""
    if value is None:
        return ModelError("model_config", f"config.json lacks {name}, which must be {wanted}.")
    return ModelError("model_config", f"config.json: {name} must be {wanted}, not {_shown(value)}.")


def _plain_layers(name: str, value: Any) -> bool:
    return name == "layer_types" and isinstance(value, list) and set(value) == {"full_attention"}


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
