"""The encoder of the BERT family: BERT, RoBERTa and XLM-RoBERTa, as sentence-transformers uses them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.linear import Projection
from kindling_engine.models.encoder_config import EncoderConfig, encoder_config_load
from kindling_engine.models.encoder_inputs import TextBatch, TextGroup
from kindling_engine.models.errors import ModelError
from kindling_engine.models.heap import blocks_apart
from kindling_engine.models.weight_forms import PLAIN, WeightForm
from kindling_engine.models.weights import Checkpoint

_WORDS = "embeddings.word_embeddings.weight"
# A checkpoint saved with a language model's head names the encoder inside it.
_PREFIXES = ("", "bert.", "roberta.")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def encoder_load(
    folder: Path,
    architecture: str,
    *,
    device: torch.device,
    dtype: torch.dtype,
    form: WeightForm = PLAIN,
) -> "Encoder":
    """Load an encoder's folder; raises ModelError with a code and a remedy."""
    config = encoder_config_load(folder, architecture)
    with (
        blocks_apart(),
        torch.inference_mode(),
        Checkpoint(folder, dtype=dtype, device=device) as checkpoint,
    ):
        return Encoder(config, checkpoint, device, form)


class LayerNorm:
    """``(x − mean) / std · w + b`` over the last axis."""

    __slots__ = ("_bias", "_eps", "_shape", "_weight")

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self._weight, self._bias, self._eps = weight, bias, eps
        self._shape = (weight.shape[0],)

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self._shape, self._weight, self._bias, self._eps)


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """Weights of one layer; q, k and v are one projection. The norms follow the residuals."""

    qkv: Projection
    output: Projection
    attention_norm: LayerNorm
    up: Projection
    down: Projection
    mlp_norm: LayerNorm


class Encoder:
    """Post-norm transformer in which every token of a text sees all of that text and nothing else."""

    def __init__(
        self,
        config: EncoderConfig,
        checkpoint: Checkpoint,
        device: torch.device,
        form: WeightForm = PLAIN,
    ) -> None:
        self.config = config
        self.device = device
        prefix = next((prefix for prefix in _PREFIXES if f"{prefix}{_WORDS}" in checkpoint), None)
        if prefix is None:
            raise ModelError("weights_missing", f"The checkpoint has no tensor {_WORDS}.")
        hidden = config.hidden_size
        self._words = form.table(
            checkpoint.table(f"{prefix}{_WORDS}", (config.vocab_size, hidden)), checkpoint.dtype
        )
        self.dtype = self._words.dtype
        positions = checkpoint.take(
            f"{prefix}embeddings.position_embeddings.weight", (config.positions, hidden)
        )
        types = checkpoint.take(
            f"{prefix}embeddings.token_type_embeddings.weight", (config.type_vocab_size, hidden)
        )
        # Every token is of the first type here, so that its vector belongs to the position.
        self._positions = positions[config.position_offset :] + types[0]
        self._norm = _norm(config, checkpoint, f"{prefix}embeddings.LayerNorm")
        self._activation = _ACTIVATIONS[config.activation]
        self._layers = [
            _layer_load(config, checkpoint, form, f"{prefix}encoder.layer.{index}.")
            for index in range(config.num_layers)
        ]

    def hidden(self, batch: TextBatch) -> Tensor:
        """Last hidden states ``[n, hidden]`` of the batch's tokens, in the batch's order."""
        states = self._words(batch.tokens) + F.embedding(batch.positions, self._positions)
        states = self._norm(states)
        for layer in self._layers:
            attended = self._attend(layer.qkv(states), batch.groups)
            states = layer.attention_norm(layer.output(attended) + states)
            states = layer.mlp_norm(layer.down(self._activation(layer.up(states))) + states)
        return states

    def _attend(self, qkv: Tensor, groups: tuple[TextGroup, ...]) -> Tensor:
        """Attention of every token over its own text: ``qkv [n, 3 · hidden]`` to ``[n, hidden]``."""
        if len(groups) == 1:
            return self._attend_group(qkv, groups[0])
        return torch.cat([self._attend_group(qkv[group.start : group.stop], group) for group in groups])

    def _attend_group(self, qkv: Tensor, group: TextGroup) -> Tensor:
        config = self.config
        if group.padded is not None:
            qkv = qkv.index_select(0, group.padded)
        split = qkv.view(group.count, group.length, 3, config.num_heads, config.head_dim)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=group.mask)
        flat = attended.transpose(1, 2).reshape(group.count * group.length, config.hidden_size)
        return flat if group.kept is None else flat.index_select(0, group.kept)


def _layer_load(config: EncoderConfig, checkpoint: Checkpoint, form: WeightForm, prefix: str) -> EncoderLayer:
    hidden, inner = config.hidden_size, config.intermediate_size

    def linear(names: tuple[str, ...], rows: int, size: int) -> Projection:
        weights = [checkpoint.take(f"{prefix}{name}.weight", (rows, size)) for name in names]
        biases = [checkpoint.take(f"{prefix}{name}.bias", (rows,)) for name in names]
        return form.linear(weights[0] if len(weights) == 1 else torch.cat(weights), torch.cat(biases))

    own = "attention.self."
    return EncoderLayer(
        qkv=linear((f"{own}query", f"{own}key", f"{own}value"), hidden, hidden),
        output=linear(("attention.output.dense",), hidden, hidden),
        attention_norm=_norm(config, checkpoint, f"{prefix}attention.output.LayerNorm"),
        up=linear(("intermediate.dense",), inner, hidden),
        down=linear(("output.dense",), hidden, inner),
        mlp_norm=_norm(config, checkpoint, f"{prefix}output.LayerNorm"),
    )


def _norm(config: EncoderConfig, checkpoint: Checkpoint, name: str) -> LayerNorm:
    size = (config.hidden_size,)
    return LayerNorm(
        checkpoint.take(f"{name}.weight", size), checkpoint.take(f"{name}.bias", size), config.norm_eps
    )
