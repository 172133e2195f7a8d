"""Phi-3 and Phi-4: Llama with q, k, v and gate, up stored as one tensor each; part of each head may turn."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read
from kindling_engine.models.errors import ModelError


def phi3(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields.default(rms_norm_eps=1e-5), partial_rotary=True)
    if config.rotaries[0].kind != "default":
        # transformers takes "yarn" in these files for another scaling, and knows no other kind here.
        raise ModelError(
            "unsupported_model",
            f"For {config.architecture}, rope type {config.rotaries[0].kind!r} is not supported.",
        )
    window = fields.count_or_none("sliding_window")
    return replace(config, fused_weights=True, layers=(LayerConfig(window=window),) * config.num_layers)
