"""Builds a decoder's layers from a checkpoint, by the names that the Llama family gives its tensors."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from kindling_engine.jit.decode import compiled_decode
from kindling_engine.layers.attention import AttentionSpec, attention_for
from kindling_engine.layers.attention_paged import kernels_take, paged_attention_for
from kindling_engine.layers.embedding import Table
from kindling_engine.layers.invariant import steady_activation, tiled_router
from kindling_engine.layers.linear import Projection
from kindling_engine.layers.mlp import Activation, GatedMlp, activation_find
from kindling_engine.layers.moe import Experts, GroupedExperts, SeparateExperts, SparseMlp, in_groups
from kindling_engine.layers.norm import CenteredRmsNorm, RmsNorm
from kindling_engine.lora.sites import DOWN, GATE_UP, OUTPUT, QKV, ROUTER, site_index
from kindling_engine.models.config import DecoderConfig, ExpertsConfig
from kindling_engine.models.decoder_layer import Attention, DecoderLayer, Mlp
from kindling_engine.models.errors import ModelError
from kindling_engine.models.expert_weights import expert_weights, stacked
from kindling_engine.models.weight_forms import TILED, WeightForm
from kindling_engine.models.weights import Checkpoint

_LAYER_TENSOR = re.compile(r"layers\.([0-9]{1,4})\..+[._](?:weight|bias|sinks)")


class DecoderWeights:
    """Reads a checkpoint part by part; raises ModelError that names the tensor at fault."""

    def __init__(
        self,
        config: DecoderConfig,
        checkpoint: Checkpoint,
        device: torch.device,
        form: WeightForm,
        *,
        batch_invariant: bool = False,
    ) -> None:
        self._config = config
        self._batch_invariant = batch_invariant
        self._form = TILED if batch_invariant else form
        self._checkpoint = checkpoint
        self._device = device
        prefixes = config.weight_prefixes
        self._prefix = next((p for p in prefixes if f"{p}embed_tokens.weight" in checkpoint), prefixes[0])

    def embedding(self) -> Table:
        """``[vocab, hidden]``."""
        return self._table(f"{self._prefix}embed_tokens.weight")

    def head(self) -> Projection:
        """The head of a model whose head is not its embedding."""
        outer = self._prefix.removesuffix("model.")
        name = f"{outer}lm_head.weight"
        if name not in self._checkpoint:
            name = "lm_head.weight"
        return self._table(name).head()

    def final_norm(self) -> RmsNorm:
        return self._norm("norm", self._config.hidden_size)

    def kv_scales(self) -> Tensor | None:
        """What numbers of an e4m3 cache stand for, fp32 ``[layers, K or V, kv_heads]``; None where the checkpoint does
        not say it of every layer.
        """
        config = self._config
        layers = []
        for index in range(config.num_layers):
            prefix = f"{self._prefix}layers.{index}.self_attn."
            found = [
                next((name for name in _scale_names(prefix, part) if name in self._checkpoint), None)
                for part in ("k", "v")
            ]
            if None in found:
                return None
            layers.append([self._scale(name, config.num_kv_heads) for name in found if name is not None])
        return torch.stack([torch.stack(pair) for pair in layers])

    def _scale(self, name: str, kv_heads: int) -> Tensor:
        """Of each KV head, for which a checkpoint has one number or one each."""
        scale = self._checkpoint.peek(name).to(torch.float32).flatten()
        if scale.numel() not in {1, kv_heads} or not bool((scale.isfinite() & (scale > 0)).all()):
            raise ModelError(
                "weights_shape",
                f"Tensor {name} should be one positive number, or {kv_heads} of them, one for each KV head.",
            )
        return scale.expand(kv_heads).clone()

    def refuse_left(self) -> None:
        """Refuse a weight or bias in one of the layers that was not read and is not all zero.

        It belongs to something that config.json does not mention, and that would be left undone. Layers behind the
        last, and stored constants, are in many checkpoints and mean nothing here.
        """
        for name in self._checkpoint.names_left():
            match = _LAYER_TENSOR.fullmatch(name.removeprefix(self._prefix))
            if match is None or int(match[1]) >= self._config.num_layers:
                continue
            if self._checkpoint.peek(name).any():
                raise ModelError(
                    "unsupported_model",
                    f"The checkpoint has a tensor {name}, which a {self._config.architecture} with this config.json "
                    "does not use.",
                )

    def layer(self, index: int) -> DecoderLayer:
        """One layer."""
        config, prefix = self._config, f"layers.{index}."
        hidden = config.hidden_size
        # With norms behind attention and MLP, the one before the MLP has another name.
        before_mlp = "pre_feedforward_layernorm" if config.post_norms else "post_attention_layernorm"
        return DecoderLayer(
            input_norm=self._norm(f"{prefix}input_layernorm", hidden),
            attention=self._attention(index, f"{prefix}self_attn."),
            attention_post_norm=self._norm(f"{prefix}post_attention_layernorm", hidden)
            if config.post_norms
            else None,
            mlp_norm=self._norm(f"{prefix}{before_mlp}", hidden),
            mlp=self._mlp(index, f"{prefix}mlp."),
            mlp_post_norm=self._norm(f"{prefix}post_feedforward_layernorm", hidden)
            if config.post_norms
            else None,
        )

    def _attention(self, index: int, prefix: str) -> Attention:
        config = self._config
        layer = config.layers[index]
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        rows = {"q_proj": q_size, "k_proj": kv_size, "v_proj": kv_size}
        if config.fused_weights:
            rows = {"qkv_proj": q_size + 2 * kv_size}
        q_norm = self._norm(f"{prefix}q_norm", config.head_dim) if config.qk_norm else None
        k_norm = self._norm(f"{prefix}k_norm", config.head_dim) if config.qk_norm else None
        spec = AttentionSpec(
            scale=config.attention_scale,
            window=layer.window,
            softcap=config.attention_softcap,
            sinks=self._take(f"{prefix}sinks", (config.num_heads,)).float() if config.sinks else None,
        )
        norms = None if q_norm is None or k_norm is None else (q_norm, k_norm)
        paged = None
        group = config.num_heads // config.num_kv_heads
        if not self._batch_invariant and kernels_take(config.head_dim, group, self._checkpoint.dtype):
            paged = paged_attention_for(self._device, heads=config.num_heads, spec=spec, norms=norms)
        compiled = None
        if self._device.type == "cpu" and self._checkpoint.dtype == torch.float32:
            compiled = compiled_decode(
                heads=config.num_heads,
                kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                spec=spec,
                norms=norms,
                always=self._batch_invariant,
            )
        return Attention(
            qkv=self._linear(prefix, rows, config.hidden_size, bias=config.qkv_bias),
            output=self._linear(prefix, {"o_proj": config.hidden_size}, q_size, bias=config.output_bias),
            q_norm=q_norm,
            k_norm=k_norm,
            heads=config.num_heads,
            kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rotary=layer.rotary,
            spec=spec,
            attend=attention_for(self._device, batch_invariant=self._batch_invariant),
            paged=paged,
            compiled=compiled,
            sites=(site_index(index, QKV), site_index(index, OUTPUT)),
        )

    def _activation(self, inner: int) -> Activation:
        """Of a gate of ``inner`` values."""
        name = self._config.activation
        return steady_activation(name, inner) if self._batch_invariant else activation_find(name)

    def _mlp(self, index: int, prefix: str) -> Mlp:
        config = self._config
        if config.experts is not None and config.layers[index].sparse:
            return self._sparse_mlp(index, config.experts, prefix)
        hidden, inner = config.hidden_size, config.intermediate_size
        rows = {"gate_up_proj": 2 * inner} if config.fused_weights else {"gate_proj": inner, "up_proj": inner}
        return GatedMlp(
            self._linear(prefix, rows, hidden, bias=config.mlp_bias),
            self._linear(prefix, {"down_proj": hidden}, inner, bias=config.mlp_bias),
            self._activation(inner),
            (site_index(index, GATE_UP), site_index(index, DOWN)),
        )

    def _sparse_mlp(self, index: int, experts: ExpertsConfig, prefix: str) -> SparseMlp:
        hidden, inner = self._config.hidden_size, experts.intermediate_size
        read = expert_weights(self._checkpoint, self._prefix + prefix, experts, hidden)
        made: Experts
        if not in_groups(self._device):
            made = SeparateExperts(
                self._linears(read.gate_up, read.gate_up_bias),
                self._linears(read.down, read.down_bias),
                self._activation(inner),
            )
        else:
            if hidden % 8 or inner % 8:
                raise ModelError(
                    "unsupported_model",
                    f"Experts of {hidden} by {inner} cannot be multiplied in groups on a GPU; multiples of 8 can.",
                )
            made = GroupedExperts(
                stacked(read.gate_up, experts.count),
                stacked(read.down, experts.count),
                self._activation(inner),
                biases=(read.gate_up_bias, read.down_bias),
            )
        return SparseMlp(
            read.router,
            made,
            top_k=experts.top_k,
            normalised=experts.normalised,
            layer=index,
            site=site_index(index, ROUTER),
            bias=read.router_bias,
            route=tiled_router if self._batch_invariant else None,
        )

    def _linears(self, weights: Iterator[Tensor], biases: Tensor | None) -> list[Projection]:
        """Of each expert, with its row of the biases."""
        return [
            self._form.linear(weight, None if biases is None else biases[expert])
            for expert, weight in enumerate(weights)
        ]

    def _table(self, name: str) -> Table:
        shape = (self._config.vocab_size, self._config.hidden_size)
        return self._form.table(self._checkpoint.table(name, shape), self._checkpoint.dtype)

    def _norm(self, name: str, size: int) -> RmsNorm:
        kind = CenteredRmsNorm if self._config.centered_norms else RmsNorm
        return kind(self._take(f"{name}.weight", (size,)), self._config.norm_eps)

    def _linear(self, prefix: str, rows: dict[str, int], size: int, *, bias: bool) -> Projection:
        """Layers that share an input, as one."""
        weight = self._rows(prefix, rows, size, "weight")
        return self._form.linear(weight, self._rows(prefix, rows, None, "bias") if bias else None)

    def _rows(self, prefix: str, rows: dict[str, int], size: int | None, kind: str) -> Tensor:
        parts = [
            self._take(f"{prefix}{name}.{kind}", (count,) if size is None else (count, size))
            for name, count in rows.items()
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return self._checkpoint.take(self._prefix + name, shape)


def _scale_names(prefix: str, part: str) -> tuple[str, str]:
    """As vLLM's and compressed-tensors' checkpoints call it, and as ModelOpt's do."""
    return f"{prefix}{part}_scale", f"{prefix}{part}_proj.{part}_scale"
