"""Gemma 2: every second layer under a window; scores and logits are capped by tanh."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import (
    FULL,
    SLIDING,
    decoder_config_read,
    layer_types_read,
    windows_of,
)


def gemma2(fields: ConfigFields) -> DecoderConfig:
    fields.default(
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        attn_logit_softcapping=50.0,
        final_logit_softcapping=30.0,
    )
    config = decoder_config_read(
        fields, activation_field="hidden_activation", activation="gelu_pytorch_tanh", tied=True
    )
    types = layer_types_read(fields, config.num_layers) or [
        FULL if index % 2 else SLIDING for index in range(config.num_layers)
    ]
    bias = fields.flag("attention_bias")
    return replace(
        config,
        qkv_bias=bias,
        output_bias=bias,
        centered_norms=True,
        post_norms=True,
        embedding_scale=config.hidden_size**0.5,
        attention_scale=fields.number("query_pre_attn_scalar") ** -0.5,
        attention_softcap=fields.number_or_none("attn_logit_softcapping"),
        logit_softcap=fields.number_or_none("final_logit_softcapping"),
        layers=tuple(
            LayerConfig(window=window) for window in windows_of(types, fields.count_or_none("sliding_window"))
        ),
    )
