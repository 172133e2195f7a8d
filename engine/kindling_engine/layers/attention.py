"""Attention over paged KV: one dispatch point; and the form without a cache, for encoders."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby

import torch
from torch import Tensor

from kindling_engine.layers.attention_cpu import paged_attention_cpu
from kindling_engine.layers.attention_reference import attend, paged_attention_reference
from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows, PrefillRows, additive
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.attention_tiled import paged_attention_tiled

__all__ = [
    "AttentionFunction",
    "AttentionInputs",
    "AttentionSpec",
    "DecodeRows",
    "LayerCache",
    "PrefillRows",
    "attention_for",
    "bidirectional_attention",
    "paged_attention_reference",
]

AttentionFunction = Callable[[Tensor, Tensor, Tensor, LayerCache, AttentionInputs, AttentionSpec], Tensor]


def attention_for(device: torch.device, *, batch_invariant: bool = False) -> AttentionFunction:
    """The implementation for a device; the torch reference serves those without one of their own."""
    if batch_invariant:
        return paged_attention_tiled
    if device.type == "cuda" and (kernels := _kernels()) is not None:
        return kernels
    return _IMPLEMENTATIONS.get(device.type, paged_attention_reference)


@cache
def _kernels() -> AttentionFunction | None:
    """Those of a GPU, unless triton is missing; one for all layers, which share a step's rows."""
    try:
        from kindling_engine.layers.attention_kernels import KernelAttention
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        return None
    return KernelAttention()


def bidirectional_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: Sequence[int], spec: AttentionSpec
) -> Tensor:
    """Attention of encoders: each of several sequences laid end to end sees all of itself, and nothing is kept.

    ``query [n, heads, d]``, ``key`` and ``value [n, kv_heads, d]`` with n the sum of ``lengths``; returns
    ``[n, heads · d]``. A ``window`` reaches both ways: a token sees those less than ``window`` positions off.
    Neighbours of equal length share one call, so sort by length where it matters.
    """
    output = query.new_empty(query.shape[0], query.shape[1] * query.shape[2])
    start = 0
    for length, equals in groupby(lengths):
        count = sum(1 for _ in equals)
        span = slice(start, start + count * length)
        mask = None
        if spec.window is not None and spec.window < length:
            position = torch.arange(length, device=query.device)
            apart = (position[:, None] - position[None, :]).abs()
            mask = additive(apart >= spec.window, query.dtype)
        attended = attend(
            _heads_first(query[span], count),
            _heads_first(key[span], count),
            _heads_first(value[span], count),
            mask,
            spec,
        )
        output[span] = attended.transpose(1, 2).reshape(count * length, -1)
        start = span.stop
    return output


def _heads_first(x: Tensor, count: int) -> Tensor:
    """``[count · length, heads, d]`` as ``[count, heads, length, d]``."""
    return x.reshape(count, -1, x.shape[1], x.shape[2]).transpose(1, 2)


_IMPLEMENTATIONS: dict[str, AttentionFunction] = {"cpu": paged_attention_cpu}
