"""What all decoder families read from config.json alike; each family replaces what it does otherwise."""

from collections.abc import Sequence

from kindling_engine.layers.mlp import ACTIVATIONS
from kindling_engine.layers.rotary_scaling import RotaryConfig
from kindling_engine.models.config import DecoderConfig, LayerConfig
from kindling_engine.models.config_fields import ConfigFields, malformed
from kindling_engine.models.end_tokens import eos_ids_read
from kindling_engine.models.errors import ModelError
from kindling_engine.models.rotary_fields import context_length, rotary_read

_MAX_LAYERS = 4096
FULL, SLIDING = "full_attention", "sliding_attention"


def decoder_config_read(
    fields: ConfigFields,
    *,
    theta: float = 10000.0,
    partial_rotary: bool = False,
    activation_field: str = "hidden_act",
    activation: str = "silu",
    tied: bool = False,
    rotaries: tuple[RotaryConfig, ...] | None = None,
) -> DecoderConfig:
    """A plain Llama; the arguments are a family's defaults for fields that its files may leave out.

    ``rotaries`` are those of a family that reads them itself; the first is for layers with full attention.
    """
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    head_dim = head_dim_read(fields)
    kv_heads = fields.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise ModelError(
            "model_config", f"config.json: {heads} attention heads cannot share {kv_heads} key-value heads."
        )
    num_layers = fields.count("num_hidden_layers", high=_MAX_LAYERS)
    if rotaries is None:
        rotaries = (rotary_read(fields, dim=head_dim, theta=theta, partial=partial_rotary),)
    name = fields.text(activation_field, activation)
    if name not in ACTIVATIONS:
        served = ", ".join(ACTIVATIONS)
        raise ModelError("unsupported_model", f"{activation_field} {name!r} is not supported; {served} are.")
    return DecoderConfig(
        architecture=fields.architecture,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=fields.count("vocab_size"),
        context_length=context_length(fields, rotaries[0]),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=name,
        rotaries=rotaries,
        layers=(LayerConfig(),) * num_layers,
        attention_scale=head_dim**-0.5,
        tied_embeddings=fields.flag("tie_word_embeddings", tied),
        eos_ids=eos_ids_read(
            fields.folder, fields.any("eos_token_id"), vocab_size=fields.count("vocab_size")
        ),
        revision=fields.revision,
    )


def head_dim_read(fields: ConfigFields) -> int:
    """Width of a head: as given, or the heads' share of the hidden size."""
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    given = fields.count_or_none("head_dim")
    if given is None and hidden % heads:
        raise ModelError(
            "model_config", f"config.json: hidden_size {hidden} is no multiple of {heads} heads."
        )
    return given or hidden // heads


def windows_read(
    fields: ConfigFields, num_layers: int, *, first_sliding: int | None = None
) -> Sequence[int | None]:
    """Each layer's window, for families that switch windows on by ``use_sliding_window``.

    Which layers have one is up to ``layer_types``; without that, those from ``first_sliding`` on.
    """
    fields.any("sliding_window")  # without the switch it says nothing
    window = fields.count("sliding_window") if fields.flag("use_sliding_window") else None
    first = num_layers if first_sliding is None or window is None else first_sliding
    types = layer_types_read(fields, num_layers) or [
        SLIDING if index >= first else FULL for index in range(num_layers)
    ]
    return windows_of(types, window)


def layer_types_read(fields: ConfigFields, num_layers: int) -> list[str] | None:
    """``layer_types``, every one of them full or sliding attention; None if left out."""
    types = fields.texts("layer_types", num_layers)
    strange = set(types or ()) - {FULL, SLIDING}
    if strange:
        raise ModelError(
            "unsupported_model",
            f"config.json asks for layers of {min(strange)}; {FULL} and {SLIDING} are supported.",
        )
    return types


def windows_of(types: Sequence[str], window: int | None) -> Sequence[int | None]:
    """The window of each layer by its type."""
    if window is None and SLIDING in types:
        raise malformed("sliding_window", "the width of a window, as layer_types asks for one", None)
    return [window if kind == SLIDING else None for kind in types]
