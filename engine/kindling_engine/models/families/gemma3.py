"""Gemma 3, text: norms around attention and MLP, and layers under a window with a rotation of their own."""

from dataclasses import replace

from kindling_engine.layers.rotary_scaling import RotaryConfig
from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import (
    FULL,
    SLIDING,
    decoder_config_read,
    head_dim_read,
    layer_types_read,
    windows_of,
)
from kindling_engine.models.rotary_fields import rotary_section_read

# Published files leave out what equals these.
_DEFAULTS = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "sliding_window_pattern": 6,
}
_GLOBAL_THETA, _LOCAL_THETA = 1000000.0, 10000.0


def gemma3(fields: ConfigFields) -> DecoderConfig:
    fields.default(**_DEFAULTS)
    config = decoder_config_read(
        fields,
        activation_field="hidden_activation",
        activation="gelu_pytorch_tanh",
        tied=True,
        rotaries=_rotaries(fields),
    )
    fields.any("_sliding_window_pattern")  # the same as the one without the underscore
    pattern = fields.count("sliding_window_pattern")
    types = layer_types_read(fields, config.num_layers) or [
        SLIDING if (index + 1) % pattern else FULL for index in range(config.num_layers)
    ]
    windows = windows_of(types, fields.count_or_none("sliding_window"))
    bias = fields.flag("attention_bias")
    return replace(
        config,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        centered_norms=True,
        post_norms=True,
        embedding_scale=config.hidden_size**0.5,
        attention_scale=fields.number("query_pre_attn_scalar") ** -0.5,
        logit_softcap=fields.number_or_none("final_logit_softcapping"),
        layers=tuple(
            LayerConfig(window=window, rotary=int(kind == SLIDING))
            for window, kind in zip(windows, types, strict=True)
        ),
    )


def gemma3_conditional(fields: ConfigFields) -> DecoderConfig:
    """The text part of a checkpoint that can also see; its images are refused where requests come in."""
    text = gemma3(fields.section("text_config", "eos_token_id", "tie_word_embeddings"))
    return replace(
        text,
        weight_prefixes=("language_model.model.", "model.language_model."),
        module_prefix="model.language_model.",
    )


def _rotaries(fields: ConfigFields) -> tuple[RotaryConfig, RotaryConfig]:
    """Those of full and of sliding layers: one object for each, or the older fields side by side."""
    both = fields.mapping("rope_parameters")
    full = {
        "rope_theta": fields.any("rope_theta"),
        **(both.get(FULL) or {}),
        **fields.mapping("rope_scaling"),
    }
    sliding = {"rope_theta": fields.any("rope_local_base_freq"), **(both.get(SLIDING) or {})}
    dim = head_dim_read(fields)
    return (
        rotary_section_read(fields, full, dim=dim, theta=_GLOBAL_THETA),
        rotary_section_read(fields, sliding, dim=dim, theta=_LOCAL_THETA),
    )
