"""Attention over paged KV in which a token's bits depend on itself and its keys alone.

A prompt's token is read as a decoded one is: keys come in chunks of ``CHUNK`` positions from fixed borders on, each
chunk is attended to by itself, and the parts are merged in the order of positions (the "online softmax" of Milakov
and Gimelshein, 2018). What a chunk gives a query does not depend on the queries beside it, as these stand in tiles of
heights that were seen not to matter (``row_tiles``), and a chunk that a query sees nothing of leaves it as it is: its
weight is exactly zero, that of the rest exactly one.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.attention_reference import store
from kindling_engine.layers.attention_rows import AttentionInputs
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.attention_tiles import CHUNK, SharedChunk, TileChunk, TilePlan
from kindling_engine.layers.row_tiles import height_for, heights_proven

# Lower than any score, and finite: of a chunk of which nothing is seen no NaN comes.
_LOWEST = -1e30

Part = tuple[Tensor, Tensor, Tensor]
"""What some keys give: Σ w·v, the highest score and Σ w, each per query; w = exp(score − highest)."""

Sizes = tuple[tuple[int, ...], int]
"""Heights of products, and the query heads of a KV head."""


def paged_attention_tiled(  # noqa: PLR0917, in the order of every implementation
    query: Tensor, key: Tensor, value: Tensor, cache: LayerCache, inputs: AttentionInputs, spec: AttentionSpec
) -> Tensor:
    """Store this step's K and V, then attend; shapes as in the reference."""
    store(key, value, cache, inputs)
    count, heads, head_dim = query.shape
    kv_heads = cache.key_pages.shape[0]
    group = heads // kv_heads
    # [kv_heads, n, group, d]: the query heads of a KV head go together.
    grouped = query.view(count, kv_heads, group, head_dim).transpose(0, 1)
    heights = _heights(query, spec)
    output = torch.empty_like(grouped, memory_format=torch.contiguous_format)
    if inputs.decode is not None:
        rows = slice(0, inputs.decode.count)
        plan = inputs.decode.tiles(spec.window)
        output[:, rows] = _attend(grouped[:, rows, None], cache, plan, spec, heights)[:, :, 0]
    for prefill in inputs.prefills:
        plan = prefill.tiles(spec.window, most=max(1, heights[-1] // group))
        tokens = grouped[:, prefill.start : prefill.stop]
        whole = F.pad(tokens, (0, 0, 0, 0, 0, plan.count * plan.tokens - prefill.count))
        made = _attend(whole.unflatten(1, (plan.count, plan.tokens)), cache, plan, spec, heights)
        output[:, prefill.start : prefill.stop] = made.flatten(1, 2)[:, : prefill.count]
    return output.transpose(0, 1).reshape(count, heads * head_dim)


def _attend(
    query: Tensor, cache: LayerCache, plan: TilePlan, spec: AttentionSpec, heights: tuple[int, ...]
) -> Tensor:
    """``query [kv_heads, tiles, tokens, group, d]`` over each tile's own keys; gives the same shape."""
    kv_heads, _, tokens, group, head_dim = query.shape
    if plan.order is not None:
        query = query.index_select(1, plan.order)
    rows = tokens * group
    flat = query.reshape(kv_heads, plan.count, rows, head_dim)
    height = height_for(rows, heights)
    flat = F.pad(flat, (0, 0, 0, -rows % height))
    output = peak = total = flat
    for index, chunk in enumerate(plan.chunks):
        part, part_peak, part_total = _chunk(flat[:, : chunk.count], cache, chunk, spec, (heights, group))
        if index == 0:
            output, peak, total = part, part_peak, part_total
            continue
        now = slice(0, chunk.count)
        highest = torch.maximum(peak[:, now], part_peak)
        kept, taken = (peak[:, now] - highest).exp_(), part_peak.sub_(highest).exp_()
        peak[:, now] = highest
        total[:, now] = total[:, now].mul_(kept) + part_total.mul_(taken)
        output[:, now] = output[:, now].mul_(kept) + part.mul_(taken)
    if spec.sinks is not None:
        sinks = spec.sinks.to(peak.dtype).view(kv_heads, 1, 1, group).expand(-1, -1, tokens, -1)
        total[:, :, :rows] += (sinks.reshape(kv_heads, 1, rows, 1) - peak[:, :, :rows]).exp_()
    output = output.div_(total)[:, :, :rows]
    output = output.reshape(*output.shape[:2], tokens, group, output.shape[-1])
    if plan.order is None:
        return output
    return torch.empty_like(output).index_copy_(1, plan.order, output)


def _chunk(query: Tensor, cache: LayerCache, chunk: TileChunk, spec: AttentionSpec, sizes: Sizes) -> Part:
    """A chunk's part for the tiles that have one, ``query [kv_heads, tiles, rows, d]``."""
    if chunk.own is None:
        return _own(query, cache, chunk, spec, sizes)
    kv_heads, count, rows, head_dim = query.shape
    whole = tuple(query.new_empty((kv_heads, count, rows, width)) for width in (head_dim, 1, 1))
    made = (
        [(chunk.own, _own(query.index_select(1, chunk.own), cache, chunk, spec, sizes))]
        if len(chunk.own)
        else []
    )
    for shared in chunk.shared:
        chosen = query.index_select(1, shared.tiles)
        made.append((shared.tiles, _shared(chosen, cache, shared, spec, sizes[0])))
    for tiles, part in made:
        for target, values in zip(whole, part, strict=True):
            target.index_copy_(1, tiles, values)
    return whole[0], whole[1], whole[2]


def _own(query: Tensor, cache: LayerCache, chunk: TileChunk, spec: AttentionSpec, sizes: Sizes) -> Part:
    """Tiles that have keys of their own."""
    kv_heads, count, rows, head_dim = query.shape
    heights, group = sizes
    height = height_for(rows, heights)
    shape = (kv_heads * count, CHUNK, head_dim)
    keys, values = (one.view(shape) for one in cache.gather(chunk.pages))
    scores = _scores(query.reshape(kv_heads * count, rows, head_dim), keys, spec, height)
    if chunk.hidden is not None:
        tokens = chunk.hidden.shape[1]
        seen = scores.view(kv_heads, count, rows, CHUNK)[:, :, : tokens * group]
        seen.unflatten(2, (tokens, group)).masked_fill_(chunk.hidden[:, :, None], float("-inf"))
    part, peak, total = _weighted(scores, values, height)
    whole = (kv_heads, count, rows, -1)
    return part.view(whole), peak.view(whole), total.view(whole)


def _shared(
    query: Tensor, cache: LayerCache, shared: SharedChunk, spec: AttentionSpec, heights: tuple[int, ...]
) -> Part:
    """Tiles of the same keys, as one: that changes no bit, since heights do not."""
    kv_heads, count, rows, head_dim = query.shape
    height = height_for(count * rows, heights)
    flat = F.pad(query.reshape(kv_heads, count * rows, head_dim), (0, 0, 0, -(count * rows) % height))
    keys, values = (one.view(kv_heads, CHUNK, head_dim) for one in cache.gather(shared.pages))
    found = _weighted(_scores(flat, keys, spec, height), values, height)
    part, peak, total = (one[:, : count * rows].reshape(kv_heads, count, rows, -1) for one in found)
    return part, peak, total


def _scores(query: Tensor, keys: Tensor, spec: AttentionSpec, height: int) -> Tensor:
    """``[batch, q, CHUNK]`` for ``query [batch, q, d]`` and ``keys [batch, CHUNK, d]``."""
    scores = _product(query, keys.transpose(1, 2), height)
    if spec.softcap is None:
        return scores.mul_(spec.scale)
    return scores.mul_(spec.scale / spec.softcap).tanh_().mul_(spec.softcap)


def _weighted(scores: Tensor, values: Tensor, height: int) -> Part:
    peak = scores.amax(dim=-1, keepdim=True).clamp_(min=_LOWEST)
    weights = scores.sub_(peak).exp_()
    return _product(weights, values, height), peak, weights.sum(dim=-1, keepdim=True)


def _product(left: Tensor, right: Tensor, height: int) -> Tensor:
    """``left @ right`` in tiles of ``height`` rows of ``left [batch, q, k]``."""
    if left.shape[1] == height:
        return torch.bmm(left, right)
    return torch.cat([torch.bmm(part.contiguous(), right) for part in left.split(height, dim=1)], dim=1)


def _heights(query: Tensor, spec: AttentionSpec) -> tuple[int, ...]:
    """Heights of queries that give equal bits, for a KV head alone and for many."""
    head_dim = query.shape[-1]
    like = query.new_empty((1, head_dim))
    return heights_proven(partial(_trial, spec=spec), ("attention", head_dim, spec.softcap), like)


def _trial(rows: Tensor, spec: AttentionSpec) -> Tensor:
    """A chunk's work for ``rows [n, d]`` over keys that are always the same: alone, and as the last of a batch."""
    generator = torch.Generator().manual_seed(1)
    keys, values = torch.randn((2, 3, CHUNK, rows.shape[1]), generator=generator).to(rows)
    found = []
    for batch in (1, 3):
        queries = rows.expand(batch, -1, -1).contiguous()
        scores = _scores(queries, keys[-batch:], spec, rows.shape[0])
        found += [part[-1] for part in _weighted(scores, values[-batch:], rows.shape[0])]
    return torch.cat(found, dim=-1)
