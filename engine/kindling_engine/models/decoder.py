"""The decoder of the Llama family: Llama, Mistral, Qwen2, Qwen3 and others of that layout."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.attention import AttentionSpec, LayerCache, attention_for
from kindling_engine.layers.linear import Linear
from kindling_engine.layers.norm import RmsNorm
from kindling_engine.layers.rotary import inverse_frequencies, rotary_tables, rotate
from kindling_engine.lora.sites import DOWN, GATE_UP, OUTPUT, QKV, decoder_layout, site_index
from kindling_engine.models.base import StepInputs
from kindling_engine.models.config import DecoderConfig
from kindling_engine.models.weights import Checkpoint


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Weights of one layer; q, k and v are one projection, gate and up another."""

    input_norm: RmsNorm
    qkv: Linear
    q_norm: RmsNorm | None
    k_norm: RmsNorm | None
    output: Linear
    mlp_norm: RmsNorm
    gate_up: Linear
    down: Linear


class Decoder:
    """Pre-norm decoder with grouped-query attention and a gated MLP."""

    def __init__(self, config: DecoderConfig, checkpoint: Checkpoint, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.lora = decoder_layout(
            num_layers=config.num_layers,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            q_size=config.num_heads * config.head_dim,
            kv_size=config.num_kv_heads * config.head_dim,
        )
        self._embedding = checkpoint.take(
            "model.embed_tokens.weight", (config.vocab_size, config.hidden_size)
        )
        self.dtype = self._embedding.dtype
        self._layers = [_layer_load(config, checkpoint, index) for index in range(config.num_layers)]
        self._norm = RmsNorm(checkpoint.take("model.norm.weight", (config.hidden_size,)), config.norm_eps)
        # A checkpoint with tied embeddings may store the head as well; the flag decides.
        tied = config.tied_embeddings or config.task == "embed"
        head = self._embedding if tied else checkpoint.take("lm_head.weight", tuple(self._embedding.shape))
        self._head = None if config.task == "embed" else Linear(head)
        self._inverse_frequencies = inverse_frequencies(config.rotary, config.head_dim, device)
        self._attention = attention_for(device)
        self._spec = AttentionSpec(scale=config.head_dim**-0.5)
        self._caches: list[LayerCache] = []

    def bind(self, storage: KvStorage) -> None:
        """Attach the KV pages that ``forward`` reads and writes."""
        self._caches = [
            LayerCache(*pages, *slots) for pages, slots in zip(storage.layers, storage.slots, strict=True)
        ]

    def forward(self, inputs: StepInputs) -> Tensor:
        """Logits ``[m, vocab]`` in fp32 for the wanted rows."""
        return self.logits(self.hidden(inputs))

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``[m, vocab]`` in fp32 of normed final states; an embedding model has none."""
        if self._head is None:
            raise RuntimeError("an embedding model has no head")
        return self._head(hidden).float()

    def hidden(self, inputs: StepInputs) -> Tensor:
        """Normed final states of the wanted rows; K and V of every token are stored on the way."""
        config = self.config
        lora = inputs.lora
        heads, kv_heads, head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        rotary = rotary_tables(inputs.positions, self._inverse_frequencies, self.dtype)
        hidden = F.embedding(inputs.tokens, self._embedding)
        for index, (layer, cache) in enumerate(zip(self._layers, self._caches, strict=True)):
            normed = layer.input_norm(hidden)
            qkv = layer.qkv(normed)
            if lora is not None:
                lora.add(qkv, normed, site_index(index, QKV))
            qkv = qkv.view(-1, heads + 2 * kv_heads, head_dim)
            query, key = _rotated(layer, qkv, heads, kv_heads, rotary)
            attended = self._attention(
                query, key, qkv[:, heads + kv_heads :], cache, inputs.attention, self._spec
            )
            projected = layer.output(attended)
            if lora is not None:
                lora.add(projected, attended, site_index(index, OUTPUT))
            hidden = hidden + projected
            normed = layer.mlp_norm(hidden)
            gate_up = layer.gate_up(normed)
            if lora is not None:
                lora.add(gate_up, normed, site_index(index, GATE_UP))
            gate, up = gate_up.chunk(2, dim=-1)
            gated = F.silu(gate).mul_(up)
            projected = layer.down(gated)
            if lora is not None:
                lora.add(projected, gated, site_index(index, DOWN))
            hidden = hidden + projected
        if inputs.logit_rows is not None:
            hidden = hidden.index_select(0, inputs.logit_rows)
        return self._norm(hidden)


def _rotated(
    layer: DecoderLayer, qkv: Tensor, heads: int, kv_heads: int, rotary: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Queries and keys, normed per head where the family does so, and rotated in one go where it does not."""
    if layer.q_norm is None or layer.k_norm is None:
        both = rotate(qkv[:, : heads + kv_heads], rotary)
        return both[:, :heads], both[:, heads:]
    query = layer.q_norm(qkv[:, :heads])
    key = layer.k_norm(qkv[:, heads : heads + kv_heads])
    return rotate(query, rotary), rotate(key, rotary)


def _layer_load(config: DecoderConfig, checkpoint: Checkpoint, index: int) -> DecoderLayer:
    prefix = f"model.layers.{index}."
    hidden, inner = config.hidden_size, config.intermediate_size
    q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim

    def norm(name: str, size: int) -> RmsNorm:
        return RmsNorm(checkpoint.take(f"{prefix}{name}.weight", (size,)), config.norm_eps)

    def linear(names: dict[str, int], size: int, *, bias: bool) -> Linear:
        weights = [checkpoint.take(f"{prefix}{name}.weight", (rows, size)) for name, rows in names.items()]
        biases = [checkpoint.take(f"{prefix}{name}.bias", (rows,)) for name, rows in names.items() if bias]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        return Linear(weight, torch.cat(biases) if biases else None)

    attention, mlp = "self_attn.", "mlp."
    return DecoderLayer(
        input_norm=norm("input_layernorm", hidden),
        qkv=linear(
            {f"{attention}q_proj": q_size, f"{attention}k_proj": kv_size, f"{attention}v_proj": kv_size},
            hidden,
            bias=config.qkv_bias,
        ),
        q_norm=norm(f"{attention}q_norm", config.head_dim) if config.qk_norm else None,
        k_norm=norm(f"{attention}k_norm", config.head_dim) if config.qk_norm else None,
        output=linear({f"{attention}o_proj": hidden}, q_size, bias=config.output_bias),
        mlp_norm=norm("post_attention_layernorm", hidden),
        gate_up=linear({f"{mlp}gate_proj": inner, f"{mlp}up_proj": inner}, hidden, bias=config.mlp_bias),
        down=linear({f"{mlp}down_proj": hidden}, inner, bias=config.mlp_bias),
    )
