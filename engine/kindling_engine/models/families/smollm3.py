"""SmolLM3: Llama, with every fourth layer blind to positions (NoPE)."""

from dataclasses import replace

from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields, malformed
from kindling_engine.models.decoder_fields import (
    FULL,
    SLIDING,
    decoder_config_read,
    layer_types_read,
    windows_of,
)


def smollm3(fields: ConfigFields) -> DecoderConfig:
    config = decoder_config_read(fields, theta=2000000.0, tied=True)
    rotated = _rotated(fields, config.num_layers)
    fields.any("sliding_window")  # without the switch it says nothing
    window = fields.count("sliding_window") if fields.flag("use_sliding_window") else None
    types = layer_types_read(fields, config.num_layers) or [
        FULL if window is None or turned else SLIDING for turned in rotated
    ]
    bias = fields.flag("attention_bias")
    return replace(
        config,
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=fields.flag("mlp_bias"),
        layers=tuple(
            LayerConfig(window=width, rotary=0 if turned else None)
            for width, turned in zip(windows_of(types, window), rotated, strict=True)
        ),
    )


def _rotated(fields: ConfigFields, num_layers: int) -> list[bool]:
    """Which layers have positions: a 1 in ``no_rope_layers``, for all its name."""
    interval = fields.count("no_rope_layer_interval", 4)
    given = fields.counts("no_rope_layers")
    if given is None:
        return [(index + 1) % interval != 0 for index in range(num_layers)]
    if len(given) < num_layers or not set(given) <= {0, 1}:
        raise malformed("no_rope_layers", f"a list of {num_layers} zeros and ones", given)
    return [bool(turned) for turned in given[:num_layers]]
