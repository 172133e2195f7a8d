"""Attention by our own kernels: norms, rotation and the store of K and V in one launch, then decodes, then prefills."""

from collections.abc import Callable

import torch
from torch import Tensor

from kindling_engine.kernels.paged_decode import DecodeWorkspace, paged_decode
from kindling_engine.kernels.paged_prefill import paged_prefill
from kindling_engine.kernels.rope_kv import KvTarget, QkNorm, rope_kv
from kindling_engine.layers.attention_paged import HeadNorms, PagedInputs
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.rotary import RotaryTables


class CudaAttention:
    """One layer's attention; the kernels are arguments, so that their references can stand in for them."""

    __slots__ = ("_decode", "_device", "_heads", "_norm", "_position", "_prefill", "_spec")

    def __init__(
        self,
        device: torch.device,
        *,
        heads: int,
        spec: AttentionSpec,
        norms: HeadNorms | None,
        position: Callable[..., Tensor] = rope_kv,
        decode: Callable[..., Tensor] = paged_decode,
        prefill: Callable[..., Tensor] = paged_prefill,
    ) -> None:
        self._device = device
        self._heads = heads
        self._spec = spec
        # Weights of centred norms are kept as 1 + w, so that the kernel need not know of them.
        self._norm = None if norms is None else QkNorm(norms[0].weight, norms[1].weight, norms[0].eps)
        self._position = position
        self._decode = decode
        self._prefill = prefill

    def __call__(
        self, qkv: Tensor, tables: RotaryTables | None, cache: LayerCache, inputs: PagedInputs
    ) -> Tensor:
        scales = {"key_scale": cache.key_scale, "value_scale": cache.value_scale}
        target = KvTarget(cache.key_pages, cache.value_pages, inputs.slots, **scales)
        query = self._position(qkv, tables, self._norm, target, heads=self._heads)
        out = qkv.new_empty(query.shape[0], query.shape[1] * query.shape[2])
        pages = (cache.key_pages, cache.value_pages, inputs.tables)
        decode, prefill = inputs.decode, inputs.prefill
        decodes = 0 if decode is None else decode.rows.shape[0]
        if decode is not None:
            self._decode(
                query[:decodes],
                *pages,
                decode.rows,
                decode.lengths,
                spec=self._spec,
                sinks=self._spec.sinks,
                **scales,
                max_splits=inputs.max_splits,
                workspace=inputs.workspace,
                out=out[:decodes],
            )
        if prefill is not None:
            self._prefill(
                query[decodes:],
                *pages,
                prefill.rows,
                prefill.starts,
                prefill.lengths,
                spec=self._spec,
                sinks=self._spec.sinks,
                **scales,
                max_query=prefill.max_query,
                out=out[decodes:],
            )
        return out

    def workspace_make(self, *, requests: int, kv_heads: int, head_dim: int, max_splits: int) -> object:
        if max_splits == 1:
            return None
        return DecodeWorkspace.make(
            requests=requests,
            q_len=1,
            heads=self._heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            max_splits=max_splits,
            device=self._device,
        )
