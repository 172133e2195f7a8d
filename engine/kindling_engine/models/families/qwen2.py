"""Qwen2 and Qwen2.5: biases on q, k and v; windows from layer ``max_window_layers`` on, where switched on."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read, windows_read


def qwen2(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields)
    windows = windows_read(
        fields, config.num_layers, first_sliding=fields.count("max_window_layers", 28, low=0)
    )
    return replace(config, qkv_bias=True, layers=tuple(LayerConfig(window=window) for window in windows))
