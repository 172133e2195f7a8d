"""Attention over paged KV as torch's fused kernel computes it: the reference, on any device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows, PrefillRows
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.kv_narrow import narrowed, widened

# Fused kernels want heads as wide as a multiple of this.
_SINK_WIDTH = 8


def paged_attention_reference(  # noqa: PLR0917, in the order of every implementation
    query: Tensor, key: Tensor, value: Tensor, cache: LayerCache, inputs: AttentionInputs, spec: AttentionSpec
) -> Tensor:
    """Store this step's K and V, then attend.

    ``query [n, heads, d]``, ``key`` and ``value [n, kv_heads, d]``; returns ``[n, heads · d]``:
    softmax(cap(scale·q·kᵀ) + mask)·v.
    """
    key, value = store(key, value, cache, inputs)
    if inputs.decode is not None and not inputs.prefills:
        return _decode(query, cache, inputs.decode, spec)
    output = query.new_empty(query.shape[0], query.shape[1] * query.shape[2])
    if inputs.decode is not None:
        count = inputs.decode.count
        output[:count] = _decode(query[:count], cache, inputs.decode, spec)
    for rows in inputs.prefills:
        span = slice(rows.start, rows.stop)
        output[span] = prefill_attend(query[span], key[span], value[span], cache, rows=rows, spec=spec)
    return output


def store(key: Tensor, value: Tensor, cache: LayerCache, inputs: AttentionInputs) -> tuple[Tensor, Tensor]:
    """Put this step's K and V into their slots, and give what anybody will read of them there.

    A prompt that comes in at once attends to that as well, so that it makes no difference in how many parts it comes.
    """
    if cache.key_scale is None or cache.value_scale is None:
        cache.key_slots.index_copy_(1, inputs.slots, key.transpose(0, 1))
        cache.value_slots.index_copy_(1, inputs.slots, value.transpose(0, 1))
        return key, value
    keys, values = narrowed(key, cache.key_scale), narrowed(value, cache.value_scale)
    cache.key_slots.index_copy_(1, inputs.slots, keys.view(torch.uint8).transpose(0, 1))
    cache.value_slots.index_copy_(1, inputs.slots, values.view(torch.uint8).transpose(0, 1))
    return (
        widened(keys, cache.key_scale[:, None], key.dtype),
        widened(values, cache.value_scale[:, None], value.dtype),
    )


def _decode(query: Tensor, cache: LayerCache, rows: DecodeRows, spec: AttentionSpec) -> Tensor:
    """The query heads of a KV head become rows of one query, so that keys are read once per group."""
    heads, head_dim = query.shape[1], query.shape[2]
    view = rows.view(spec.window)
    keys, values = _gather(cache, view.pages, rows.count, view.length)
    grouped = query.view(rows.count, keys.shape[1], -1, head_dim)
    if spec.sinks is None:
        output = attend(grouped, keys, values, view.mask, spec)
    else:
        joined = sinks_join(
            grouped, keys, values, view.mask, spec.sinks.view(1, keys.shape[1], -1), spec.scale
        )
        output = attend(*joined, spec)[..., :head_dim]
    return output.reshape(rows.count, heads * head_dim)


def prefill_attend(
    query: Tensor, key: Tensor, value: Tensor, cache: LayerCache, *, rows: PrefillRows, spec: AttentionSpec
) -> Tensor:
    """The query heads of a KV head become the batch; K and V are repeated over it with stride zero."""
    count, heads, head_dim = query.shape
    view = rows.view(spec.window)
    if view.pages is None:
        keys, values = key.transpose(0, 1), value.transpose(0, 1)
    else:
        keys, values = (one[0] for one in _gather(cache, view.pages, 1, view.length))
    kv_heads = keys.shape[0]
    group = heads // kv_heads
    grouped, mask = query.view(count, kv_heads, group, head_dim).permute(2, 1, 0, 3), view.mask
    if spec.sinks is not None:
        sinks = spec.sinks.view(kv_heads, group).t().unsqueeze(2)
        grouped, keys, values, mask = sinks_join(
            grouped, keys, values, mask, sinks, spec.scale, is_causal=mask is None
        )
    output = attend(
        grouped,
        keys.expand(group, -1, -1, -1),
        values.expand(group, -1, -1, -1),
        mask,
        spec,
        is_causal=mask is None,
    )
    # What the sinks have put in front and behind goes again.
    return output[:, :, -count:, :head_dim].permute(2, 1, 0, 3).reshape(count, heads * head_dim)


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    spec: AttentionSpec,
    *,
    is_causal: bool = False,
) -> Tensor:
    """``[batch, heads, q, d]`` over ``[batch, kv_heads, k, d]``; torch's fused kernels know no soft cap."""
    if spec.softcap is None:
        return F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            is_causal=is_causal,
            scale=spec.scale,
            enable_gqa=query.shape[1] != keys.shape[1],
        )
    group = query.shape[1] // keys.shape[1]
    if group > 1:
        keys, values = keys.repeat_interleave(group, dim=1), values.repeat_interleave(group, dim=1)
    scores = (query @ keys.transpose(-1, -2)).mul_(spec.scale / spec.softcap).tanh_().mul_(spec.softcap)
    if mask is not None:
        scores += mask
    elif is_causal:
        ahead = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(1)
        scores.masked_fill_(ahead, float("-inf"))
    return scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype) @ values


def sinks_join(  # noqa: PLR0917, the first four in the order of ``attend``
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    sinks: Tensor,
    scale: float,
    *,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """What ``attend`` needs to see sinks too, ``[batch, heads, q]`` or what expands to it, all with wider heads.

    A sink is one more key in front, of which each query reads its own score on an axis that no other key has. So
    torch's fused kernels do it, without a table of all scores. A row in front of the queries keeps what is causal on
    the diagonal.
    """
    width = query.shape[-1]
    query = F.pad(query, (0, _SINK_WIDTH, int(is_causal), 0))
    # What is less would be infinite, and times the zeros of other keys no number; its weight is none either way.
    query[..., width] = (sinks / scale).clamp(min=torch.finfo(query.dtype).min / 256)
    keys, values = (F.pad(one, (0, _SINK_WIDTH, 1, 0)) for one in (keys, values))
    keys[..., 0, width] = 1
    return query, keys, values, None if mask is None else F.pad(mask, (1, 0))


def _gather(cache: LayerCache, index: Tensor, count: int, length: int) -> tuple[Tensor, Tensor]:
    """Keys and values of ``count`` requests, ``[count, kv_heads, length, d]`` each."""
    keys, values = (
        one.view(one.shape[0], count, -1, one.shape[3]).transpose(0, 1)[:, :, :length]
        for one in cache.gather(index)
    )
    return keys, values
