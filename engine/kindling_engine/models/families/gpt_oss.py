"""GPT-OSS: attention sinks, every second layer with a window, and experts with biases and a gate of their own."""

from dataclasses import replace

from kindling_engine.layers.mlp import CLAMPED_SWIGLU, GATE_LIMIT, SWISH_SLOPE
from kindling_engine.models.config import DecoderConfig, ExpertsConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import (
    FULL,
    SLIDING,
    decoder_config_read,
    layer_types_read,
    windows_of,
)
from kindling_engine.models.errors import ModelError

_YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


def gpt_oss(fields: ConfigFields) -> DecoderConfig:
    fields.default(head_dim=64, rms_norm_eps=1e-5, sliding_window=128, max_position_embeddings=131072)
    if not fields.mapping("rope_scaling") and not fields.mapping("rope_parameters"):
        fields.default(rope_parameters=_YARN)
    config = decoder_config_read(fields, theta=150000.0)
    _gate_check(fields, config.activation)
    experts = ExpertsConfig(
        # Older files write num_experts.
        count=fields.count("num_local_experts", fields.count("num_experts", 128)),
        intermediate_size=config.intermediate_size,
        top_k=fields.count("num_experts_per_tok", fields.count("experts_per_token", 4)),
        # A softmax over the chosen alone is one over all, made to sum to one.
        normalised=True,
        joined=True,
    )
    if experts.top_k > experts.count:
        raise ModelError(
            "model_config", f"config.json: {experts.top_k} of {experts.count} experts cannot be chosen."
        )
    types = layer_types_read(fields, config.num_layers) or [
        FULL if index % 2 else SLIDING for index in range(config.num_layers)
    ]
    bias = fields.flag("attention_bias", True)
    return replace(
        config,
        activation=CLAMPED_SWIGLU,
        qkv_bias=bias,
        output_bias=bias,
        sinks=True,
        experts=experts,
        layers=tuple(
            LayerConfig(window=window, sparse=True)
            for window in windows_of(types, fields.count_or_none("sliding_window"))
        ),
    )


def _gate_check(fields: ConfigFields, activation: str) -> None:
    """The gate is written out for the numbers that the published models have."""
    for name, built in (("swiglu_alpha", SWISH_SLOPE), ("swiglu_limit", GATE_LIMIT)):
        if fields.number(name, built) != built:
            raise ModelError(
                "unsupported_model",
                f"config.json asks for {name} = {fields.number(name):g}; for {fields.architecture} "
                f"{built:g} is supported.",
            )
    if activation != "silu":
        raise ModelError(
            "unsupported_model",
            f"config.json asks for hidden_act = {activation!r}, which {fields.architecture} does not use.",
        )
