"""Shape and constants of a decoder, whichever family it belongs to."""

from dataclasses import dataclass
from pathlib import Path

from kindling_engine.layers.rotary_scaling import RotaryConfig
from kindling_engine.models.base import Task
from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read


@dataclass(frozen=True, slots=True)
class LayerConfig:
    """What may differ from layer to layer.

    ``window``: a token sees the last so many positions, itself included, None all. ``rotary`` is an index into
    the decoder's rotaries, None for a layer without positions. ``sparse``: a mixture of experts takes the place
    of the MLP.
    """

    window: int | None = None
    rotary: int | None = 0
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class ExpertsConfig:
    """A mixture of experts: how many, how wide each, how many per token, and whether their weights sum to one.

    ``joined``: all of them are one tensor for each product, with biases, and gate and up take turns in it.
    """

    count: int
    intermediate_size: int
    top_k: int
    normalised: bool
    joined: bool = False


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Everything the decoder needs; sizes in elements, ``context_length`` in tokens.

    ``centered_norms``: weights of norms are stored less one. ``post_norms``: what attention and MLP put out is
    normed before it is added. ``fused_weights``: q, k, v and gate, up are stored as one tensor each. ``sinks``:
    each head has a score of its own for a key without a value.
    ``weight_prefixes`` are the names a checkpoint may give the decoder, ``module_prefix`` the one PEFT does.
    """

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    norm_eps: float
    activation: str
    rotaries: tuple[RotaryConfig, ...]
    layers: tuple[LayerConfig, ...]
    attention_scale: float
    tied_embeddings: bool
    eos_ids: tuple[int, ...]
    revision: str
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    centered_norms: bool = False
    post_norms: bool = False
    fused_weights: bool = False
    sinks: bool = False
    experts: ExpertsConfig | None = None
    weight_prefixes: tuple[str, ...] = ("model.",)
    module_prefix: str = "model."
    is_encoder: bool = False
    task: Task = "generate"
    state_bytes: int = 0
    state_rows: bool = False
    token_bytes: int = 0

    @property
    def num_layers_kv(self) -> int:
        return self.num_layers

    @property
    def rotary_limit(self) -> int | None:
        """Length in tokens beyond which rotation depends on the sequence's length; None: it never does."""
        limits = [rotary.original_length for rotary in self.rotaries if rotary.kind == "dynamic"]
        return min(limits, default=None)


def architecture_read(folder: Path) -> str:
    """Name of the checkpoint's architecture."""
    names = json_object_read(folder / "config.json").get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ModelError("model_config", "config.json names no architecture.")
    return names[0]
