"""Rotary embedding as config.json spells it: ``rope_parameters``, or ``rope_theta`` with ``rope_scaling``."""

from collections.abc import Mapping
from typing import Any, cast

from kindling_engine.layers.rotary_scaling import (
    ROTARY_KINDS,
    RotaryConfig,
    RotaryKind,
    longrope_attention_factor,
    yarn_attention_factor,
)
from kindling_engine.models.config_fields import ConfigFields, malformed, number_check
from kindling_engine.models.errors import ModelError

_KNOWN = {
    "rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor",
    "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor",
    "partial_rotary_factor", "short_factor", "long_factor", "finetuned",
}  # fmt: skip
# Kinds whose original length may stand beside rope_parameters, and then counts.
_FROM_OUTSIDE = ("llama3", "yarn", "longrope", "su")


def rotary_read(
    fields: ConfigFields, *, dim: int, theta: float = 10000.0, partial: bool = False
) -> RotaryConfig:
    """The rotary embedding of a family that has one for all layers.

    ``theta`` is the family's default. ``partial``: the family may turn only the first part of each head; in
    others the field would have no effect on what they were trained to do, and is refused.
    """
    scaling = fields.mapping("rope_scaling") or fields.mapping("rope_parameters")
    if any(isinstance(value, dict) for value in scaling.values()):
        raise _refusal(fields, "rope_parameters that differ between layers are")
    outer = {"rope_theta": fields.any("rope_theta")}
    if partial:
        outer["partial_rotary_factor"] = fields.any("partial_rotary_factor")
    section = {**outer, **_given(scaling)}
    original = fields.any("original_max_position_embeddings")
    if original is not None and section.get("rope_type", section.get("type")) in _FROM_OUTSIDE:
        section["original_max_position_embeddings"] = original
    return rotary_section_read(fields, section, dim=dim, theta=theta, partial=partial)


def rotary_section_read(
    fields: ConfigFields, section: Mapping[str, Any], *, dim: int, theta: float, partial: bool = False
) -> RotaryConfig:
    """One configuration from one object of config.json."""
    section = _given(section)
    kind = section.get("rope_type") or section.get("type") or "default"
    # The first files with longrope called it so.
    if kind == "su" or (kind == "yarn" and "short_factor" in section):
        kind = "longrope"
    if kind not in ROTARY_KINDS:
        raise _refusal(fields, f"rope type {kind!r} is")
    unknown = sorted(section.keys() - _KNOWN)
    if unknown:
        raise _refusal(fields, f"the rope parameter {unknown[0]} is")
    part = number_check("partial_rotary_factor", section.get("partial_rotary_factor", 1.0))
    if part != 1.0 and not partial:
        raise _refusal(fields, f"partial_rotary_factor {part:g} is")
    dim = int(dim * part)
    if dim % 2 or dim < 4:
        raise _refusal(fields, f"a rotary embedding of {dim} dimensions is")
    longest = fields.count("max_position_embeddings")
    original = number_check(
        "original_max_position_embeddings", section.get("original_max_position_embeddings", longest)
    )
    if kind == "dynamic":
        original = longest

    def number(name: str, default: float) -> float:
        return number_check(name, section.get(name, default))

    factor = 1.0
    if kind in ("yarn", "longrope"):
        factor = number("factor", longest / original)
    elif kind != "default":
        factor = number_check("factor", section.get("factor"))
    config = RotaryConfig(
        theta=number("rope_theta", theta),
        dim=dim,
        kind=cast(RotaryKind, kind),
        factor=factor,
        original_length=int(original),
        attention_factor=_attention_factor(kind, section, factor, int(original)),
        low_freq_factor=number("low_freq_factor", 1.0),
        high_freq_factor=number("high_freq_factor", 4.0),
        beta_fast=number("beta_fast", 32.0),
        beta_slow=number("beta_slow", 1.0),
        truncate=_truncate(section),
        short_factors=_short_factors(section, dim) if kind == "longrope" else (),
    )
    if config.theta <= 1.0 or (kind == "llama3" and config.low_freq_factor == config.high_freq_factor):
        raise ModelError("model_config", "config.json: the rope parameters lead to a division by zero.")
    return config


def context_length(fields: ConfigFields, rotary: RotaryConfig) -> int:
    """Tokens that a model takes: dynamic scaling and YaRN reach beyond what they were trained for.

    Longrope changes every key of a sequence once it outgrows the original length. Keys that are in the cache by
    then would be wrong, so its context ends there.
    """
    longest = fields.count("max_position_embeddings")
    if rotary.kind in ("dynamic", "yarn"):
        return max(longest, int(rotary.original_length * rotary.factor))
    if rotary.kind == "longrope":
        return min(longest, rotary.original_length)
    return longest


def _attention_factor(kind: str, section: Mapping[str, Any], factor: float, original: int) -> float:
    if kind not in ("yarn", "longrope"):
        return 1.0
    given = section.get("attention_factor")
    if given is not None:
        return number_check("attention_factor", given)
    if kind == "longrope":
        return longrope_attention_factor(factor, original)
    return yarn_attention_factor(factor, section.get("mscale"), section.get("mscale_all_dim"))


def _short_factors(section: Mapping[str, Any], dim: int) -> tuple[float, ...]:
    given = section.get("short_factor")
    if not isinstance(given, list) or len(given) != dim // 2:
        raise malformed("short_factor", f"a list of {dim // 2} numbers", given)
    return tuple(number_check("short_factor", value) for value in given)


def _truncate(section: Mapping[str, Any]) -> bool:
    value = section.get("truncate", True)
    if not isinstance(value, bool):
        raise malformed("truncate", "true or false", value)
    return value


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in section.items() if value is not None}


def _refusal(fields: ConfigFields, what: str) -> ModelError:
    return ModelError("unsupported_model", f"For {fields.architecture}, {what} not supported.")
