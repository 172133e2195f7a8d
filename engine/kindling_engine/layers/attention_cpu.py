"""Attention on a CPU: a prefix that many rows share is read once for all of them.

Explicit products take the place of torch's fused kernel for decodes: with a handful of queries per KV head they
are faster (1.1 times at a head size of 64, 1.5 times at 128), and their sums can be merged.
"""

import torch
from torch import Tensor

from kindling_engine.layers.attention_reference import prefill_attend, store
from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.decode_plan import DecodeGroup, DecodePlan, SharedPrefix


def paged_attention_cpu(  # noqa: PLR0917, in the order of every implementation
    query: Tensor, key: Tensor, value: Tensor, cache: LayerCache, inputs: AttentionInputs, spec: AttentionSpec
) -> Tensor:
    """Store this step's K and V, then attend; shapes as in the reference."""
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


def _decode(query: Tensor, cache: LayerCache, rows: DecodeRows, spec: AttentionSpec) -> Tensor:
    """The query heads of a KV head are the rows of one product, so that keys are read once per group."""
    count, heads, head_dim = query.shape
    kv_heads = cache.key_pages.shape[0]
    plan = rows.plan(spec.window)
    # [kv_heads, count, group, d]: pages are stored by head, so that gathering leaves the heads outermost.
    grouped = query.view(count, kv_heads, -1, head_dim).transpose(0, 1).contiguous()
    if not plan.shared and len(plan.groups) == 1:
        output = _own(grouped, cache, plan.groups[0], spec)[0]
    else:
        output = _planned(grouped, cache, plan, spec)
    return output.transpose(0, 1).reshape(count, heads * head_dim)


def _planned(grouped: Tensor, cache: LayerCache, plan: DecodePlan, spec: AttentionSpec) -> Tensor:
    """Each group's own keys, then the shared prefixes, merged by the sums of their weights."""
    output = torch.empty_like(grouped)
    log_sum = grouped.new_empty((*grouped.shape[:3], 1)) if plan.shared else None
    for group in plan.groups:
        chosen = grouped if group.rows is None else grouped.index_select(1, group.rows)
        own, own_sum = _own(chosen, cache, group, spec, want_sum=log_sum is not None)
        _put(output, own, group.rows)
        if log_sum is not None and own_sum is not None:
            _put(log_sum, own_sum, group.rows)
    for prefix in plan.shared:
        if log_sum is None:
            break
        if prefix.rows is None:
            more, more_sum = _prefix(grouped, cache, prefix, spec)
            output = torch.lerp(output, more, torch.sigmoid(more_sum - log_sum))
        else:
            more, more_sum = _prefix(grouped.index_select(1, prefix.rows), cache, prefix, spec)
            own, own_sum = output.index_select(1, prefix.rows), log_sum.index_select(1, prefix.rows)
            # Two parts as one: the weight of the second is σ(log sum₂ − log sum₁).
            _put(output, torch.lerp(own, more, torch.sigmoid(more_sum - own_sum)), prefix.rows)
    return output


def _own(
    chosen: Tensor, cache: LayerCache, group: DecodeGroup, spec: AttentionSpec, *, want_sum: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Each row over its own pages: output ``[kv_heads, count, group, d]`` and the log of its weights' sum."""
    kv_heads, count, size, head_dim = chosen.shape
    keys, values = _gather(cache, group.pages, kv_heads * count)
    scores = _scores(chosen.view(kv_heads * count, size, head_dim), keys, spec)
    if group.mask is not None:
        scores.view(kv_heads, count, size, -1).add_(group.mask)
    if not want_sum and spec.sinks is None:
        return torch.bmm(scores.softmax(dim=-1), values).view(chosen.shape), None
    log_sum = scores.logsumexp(dim=-1, keepdim=True)
    if spec.sinks is not None:
        # Once for each row: what it shares with others adds none.
        sinks = spec.sinks.to(scores.dtype).view(kv_heads, 1, size, 1)
        log_sum = torch.logaddexp(log_sum.view(kv_heads, count, size, 1), sinks).view(log_sum.shape)
    output = torch.bmm(scores.sub_(log_sum).exp_(), values)
    return output.view(chosen.shape), log_sum.view(kv_heads, count, size, 1)


def _prefix(
    chosen: Tensor, cache: LayerCache, prefix: SharedPrefix, spec: AttentionSpec
) -> tuple[Tensor, Tensor]:
    """All rows over the same pages, as one product per KV head."""
    kv_heads, count, size, head_dim = chosen.shape
    keys, values = _gather(cache, prefix.pages, kv_heads)
    scores = _scores(chosen.reshape(kv_heads, count * size, head_dim), keys, spec)
    log_sum = scores.logsumexp(dim=-1, keepdim=True)
    output = torch.bmm(scores.sub_(log_sum).exp_(), values)
    return output.view(chosen.shape), log_sum.view(kv_heads, count, size, 1)


def _scores(query: Tensor, keys: Tensor, spec: AttentionSpec) -> Tensor:
    """``[batch, q, k]`` for ``query [batch, q, d]`` and ``keys [batch, k, d]``."""
    scores = torch.bmm(query, keys.transpose(1, 2))
    if spec.softcap is None:
        return scores.mul_(spec.scale)
    return scores.mul_(spec.scale / spec.softcap).tanh_().mul_(spec.softcap)


def _gather(cache: LayerCache, pages: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Keys and values ``[batch, k, d]``; the batch is KV heads, times rows where each has pages of its own."""
    shape = (batch, -1, cache.key_pages.shape[3])
    keys, values = cache.gather(pages)
    return keys.view(shape), values.view(shape)


def _put(target: Tensor, part: Tensor, rows: Tensor | None) -> None:
    """Write ``part`` to ``rows`` of axis 1, or to all of it."""
    if rows is None:
        target.copy_(part)
    else:
        target.index_copy_(1, rows, part)
