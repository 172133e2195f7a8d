"""Phi-3 and Phi-4: Llama with q, k, v and gate, up stored as one tensor each; part of each head may turn."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder_fields import decoder_config_read
from kindling_engine.models.errors import ModelError

_DEFAULTS = {"rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096}


def phi3(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields.default(**_DEFAULTS), partial_rotary=True)
    if config.rotaries[0].kind not in ("default", "longrope"):
        # transformers knows no other kind here either.
        raise ModelError(
            "unsupported_model",
            f"For {config.architecture}, rope type {config.rotaries[0].kind!r} is not supported.",
        )
    window = fields.count_or_none("sliding_window")
    return replace(config, fused_weights=True, layers=(LayerConfig(window=window),) * config.num_layers)
