"""Qwen3: queries and keys are normed per head; windows as in Qwen2."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read, windows_read


def qwen3(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields.default(head_dim=128))
    windows = windows_read(
        fields, config.num_layers, first_sliding=fields.count("max_window_layers", 28, low=0)
    )
    bias = fields.flag("attention_bias")
    return replace(
        config,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
        layers=tuple(LayerConfig(window=window) for window in windows),
    )
