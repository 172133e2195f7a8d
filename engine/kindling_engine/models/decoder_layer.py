"""One layer of a decoder: attention over paged KV, then an MLP, each added to what goes through."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.jit.decode import CompiledDecode
from kindling_engine.jit.linear import PackedLinear
from kindling_engine.jit.program import LayerParts
from kindling_engine.layers.attention import AttentionFunction, AttentionSpec, LayerCache
from kindling_engine.layers.attention_paged import PagedAttention
from kindling_engine.layers.linear import Linear, Projection
from kindling_engine.layers.linear_compact import CompactLinear
from kindling_engine.layers.mlp import GatedMlp
from kindling_engine.layers.norm import RmsNorm
from kindling_engine.layers.rotary import RotaryTables, rotate
from kindling_engine.layers.row_kernels import row_kernels_for
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.models.base import StepInputs

Mlp = Callable[[Tensor, LoraBatch | None], Tensor]


@dataclass(frozen=True, slots=True)
class Attention:
    """Grouped-query attention; q, k and v are one projection.

    ``paged`` takes the place of all between the projections where it is there, and a step can feed it; so does
    ``compiled`` for the steps that it takes.
    ``rotary`` is an index into the step's tables, None for none. ``sites`` are where adapters add to the two
    projections.
    """

    qkv: Projection
    output: Projection
    q_norm: RmsNorm | None
    k_norm: RmsNorm | None
    heads: int
    kv_heads: int
    head_dim: int
    rotary: int | None
    spec: AttentionSpec
    attend: AttentionFunction
    paged: PagedAttention | None
    compiled: CompiledDecode | None
    sites: tuple[int, int]

    def __call__(
        self, x: Tensor, inputs: StepInputs, tables: list[RotaryTables], cache: LayerCache
    ) -> Tensor:
        """``x [n, hidden]`` to ``[n, hidden]``; K and V are stored on the way."""
        lora = inputs.lora
        qkv = self.qkv(x)
        if lora is not None:
            lora.add(qkv, x, self.sites[0])
        attended = self._attended(qkv, inputs, None if self.rotary is None else tables[self.rotary], cache)
        projected = self.output(attended)
        if lora is not None:
            lora.add(projected, attended, self.sites[1])
        return projected

    def _attended(
        self, qkv: Tensor, inputs: StepInputs, tables: RotaryTables | None, cache: LayerCache
    ) -> Tensor:
        if self.paged is not None and inputs.attention.paged is not None:
            return self.paged(qkv, tables, cache, inputs.attention.paged)
        if self.compiled is not None and self.compiled.takes(inputs.attention, tables):
            return self.compiled(qkv, tables, cache, inputs.attention)
        qkv = qkv.view(-1, self.heads + 2 * self.kv_heads, self.head_dim)
        query, key = self._positioned(qkv, tables)
        value = qkv[:, self.heads + self.kv_heads :]
        return self.attend(query, key, value, cache, inputs.attention, self.spec)

    def _positioned(self, qkv: Tensor, tables: RotaryTables | None) -> tuple[Tensor, Tensor]:
        """Queries and keys, normed per head where the family does so, and rotated in one go where it does
        not.
        """
        both = self.heads + self.kv_heads
        if self.q_norm is None or self.k_norm is None:
            turned = qkv[:, :both] if tables is None else rotate(qkv[:, :both], tables)
            return turned[:, : self.heads], turned[:, self.heads :]
        query, key = self.q_norm(qkv[:, : self.heads]), self.k_norm(qkv[:, self.heads : both])
        return (query, key) if tables is None else (rotate(query, tables), rotate(key, tables))


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """Norms come before attention and MLP; where a family has them, others come behind."""

    input_norm: RmsNorm
    attention: Attention
    attention_post_norm: RmsNorm | None
    mlp_norm: RmsNorm
    mlp: Mlp
    mlp_post_norm: RmsNorm | None

    @property
    def parts(self) -> LayerParts | None:
        """What a program of compiled code runs of it; None if any part is something else."""
        attention, mlp = self.attention, self.mlp
        norms = (self.input_norm, self.mlp_norm)
        if (
            attention.compiled is None
            or not isinstance(mlp, GatedMlp)
            or not all(one.compiled for one in norms)
        ):
            return None
        if self.attention_post_norm is not None or self.mlp_post_norm is not None:
            return None
        qkv, output = compiled_of(attention.qkv), compiled_of(attention.output)
        gate_up, down = (compiled_of(one) for one in mlp.compiled_projections)
        if qkv is None or output is None or gate_up is None or down is None:
            return None
        rows, inner = row_kernels_for("cpu"), down.inputs
        if rows is None or not rows.fits(torch.empty((0, 2 * inner)), inner):
            return None
        return LayerParts(
            self.input_norm,
            qkv,
            attention.compiled,
            attention.rotary,
            output,
            self.mlp_norm,
            gate_up,
            down,
            (*attention.sites, *mlp.sites),
        )

    def __call__(
        self,
        hidden: Tensor,
        added: Tensor | None,
        inputs: StepInputs,
        tables: list[RotaryTables],
        cache: LayerCache,
    ) -> Tensor:
        """What is to be added to ``hidden [n, hidden]`` behind this layer; ``added``, by the layer before it, and all
        but the last are added in place, on the way through the norms.
        """
        normed = self.input_norm(hidden) if added is None else self.input_norm.of_sum(hidden, added)
        added = self.attention(normed, inputs, tables, cache)
        if self.attention_post_norm is not None:
            added = self.attention_post_norm(added)
        added = self.mlp(self.mlp_norm.of_sum(hidden, added), inputs.lora)
        if self.mlp_post_norm is not None:
            added = self.mlp_post_norm(added)
        return added


def compiled_of(projection: Projection | None) -> PackedLinear | None:
    """The code of a projection; None where there is none."""
    if isinstance(projection, PackedLinear):
        return projection
    return projection.compiled if isinstance(projection, Linear | CompactLinear) else None
