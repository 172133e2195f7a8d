"""Attention over paged KV: one dispatch point and the torch reference behind it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.kvcache.manager import PAGE_SIZE


@dataclass(frozen=True, slots=True)
class DecodeRows:
    """The first ``count`` tokens of the step: one token each of ``count`` requests.

    ``pages [count · width]`` are the requests' blocks, padded with block 0; ``mask [count, 1, 1, length]`` is
    additive, None when every row has ``length`` tokens. ``length`` counts the token of this step.
    """

    count: int
    pages: Tensor
    length: int
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class PrefillRows:
    """Tokens ``start`` to ``stop`` of the step: consecutive positions of one request.

    Without earlier context ``pages`` is None, and the keys of this step are all there are. With it, ``pages``
    cover ``length`` tokens and ``mask [stop − start, length]`` is additive and causal.
    """

    start: int
    stop: int
    pages: Tensor | None
    length: int
    mask: Tensor | None


@dataclass(frozen=True, slots=True)
class AttentionInputs:
    """What attention needs to know about a step; ``slots [n]`` is where each token's K and V are stored."""

    slots: Tensor
    decode: DecodeRows | None
    prefills: tuple[PrefillRows, ...]


@dataclass(frozen=True, slots=True)
class LayerCache:
    """One layer's pages ``[kv_heads, blocks, PAGE_SIZE, head_dim]`` and the same memory by slot."""

    key_pages: Tensor
    value_pages: Tensor
    key_slots: Tensor
    value_slots: Tensor


AttentionFunction = Callable[[Tensor, Tensor, Tensor, LayerCache, AttentionInputs], Tensor]


def attention_for(device: torch.device) -> AttentionFunction:
    """The implementation for a device; the torch reference serves every device so far."""
    return _IMPLEMENTATIONS.get(device.type, paged_attention_reference)


def paged_attention_reference(
    query: Tensor, key: Tensor, value: Tensor, cache: LayerCache, inputs: AttentionInputs
) -> Tensor:
    """Store this step's K and V, then attend.

    ``query [n, heads, d]``, ``key`` and ``value [n, kv_heads, d]``; returns ``[n, heads · d]``. Scores are
    scaled by 1/√d, softmax(q·kᵀ/√d + mask)·v.
    """
    cache.key_slots.index_copy_(1, inputs.slots, key.transpose(0, 1))
    cache.value_slots.index_copy_(1, inputs.slots, value.transpose(0, 1))
    if inputs.decode is not None and not inputs.prefills:
        return _decode(query, cache, inputs.decode)
    output = query.new_empty(query.shape[0], query.shape[1] * query.shape[2])
    if inputs.decode is not None:
        count = inputs.decode.count
        output[:count] = _decode(query[:count], cache, inputs.decode)
    for rows in inputs.prefills:
        span = slice(rows.start, rows.stop)
        output[span] = _prefill(query[span], key[span], value[span], cache, rows)
    return output


def _decode(query: Tensor, cache: LayerCache, rows: DecodeRows) -> Tensor:
    """The query heads of a KV head become rows of one query, so that keys are read once per group."""
    heads, head_dim = query.shape[1], query.shape[2]
    keys = _gather(cache.key_pages, rows.pages, rows.count, rows.length)
    values = _gather(cache.value_pages, rows.pages, rows.count, rows.length)
    grouped = query.view(rows.count, keys.shape[1], -1, head_dim)
    output = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=rows.mask)
    return output.reshape(rows.count, heads * head_dim)


def _prefill(query: Tensor, key: Tensor, value: Tensor, cache: LayerCache, rows: PrefillRows) -> Tensor:
    """The query heads of a KV head become the batch; K and V are repeated over it with stride zero."""
    count, heads, head_dim = query.shape
    if rows.pages is None:
        keys, values = key.transpose(0, 1), value.transpose(0, 1)
    else:
        keys = _gather(cache.key_pages, rows.pages, 1, rows.length)[0]
        values = _gather(cache.value_pages, rows.pages, 1, rows.length)[0]
    kv_heads = keys.shape[0]
    group = heads // kv_heads
    grouped = query.view(count, kv_heads, group, head_dim).permute(2, 1, 0, 3)
    output = F.scaled_dot_product_attention(
        grouped,
        keys.expand(group, -1, -1, -1),
        values.expand(group, -1, -1, -1),
        attn_mask=rows.mask,
        is_causal=rows.mask is None,
    )
    return output.permute(2, 1, 0, 3).reshape(count, heads * head_dim)


def _gather(pages: Tensor, index: Tensor, count: int, length: int) -> Tensor:
    """Pages of ``count`` requests as ``[count, kv_heads, length, d]``."""
    kv_heads, head_dim = pages.shape[0], pages.shape[3]
    width = index.shape[0] // count
    gathered = pages.index_select(1, index).view(kv_heads, count, width * PAGE_SIZE, head_dim)
    return gathered.transpose(0, 1)[:, :, :length]


_IMPLEMENTATIONS: dict[str, AttentionFunction] = {
    "cpu": paged_attention_reference,
    "cuda": paged_attention_reference,
}
