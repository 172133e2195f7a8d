"""Llama 2 and 3, SmolLM, SmolLM2 and others that keep to their layout."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read


def llama(fields: ConfigFields) -> DecoderConfig:
    bias = fields.flag("attention_bias")
    return replace(
        decoder_config_read(fields), qkv_bias=bias, output_bias=bias, mlp_bias=fields.flag("mlp_bias")
    )
