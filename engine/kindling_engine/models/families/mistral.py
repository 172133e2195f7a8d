"""Mistral: Llama without biases; older ones have one window for all layers."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read


def mistral(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields)
    window = fields.count_or_none("sliding_window")
    return replace(config, layers=(LayerConfig(window=window),) * config.num_layers)
