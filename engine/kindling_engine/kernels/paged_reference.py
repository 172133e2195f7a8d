"""Attention over paged KV with every score written out: what the kernels of decode and prefill are held against."""

import torch
from torch import Tensor

from kindling_engine.layers.attention_spec import AttentionSpec


def paged_reference(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    block_tables: Tensor,
    rows: Tensor,
    query_starts: Tensor,
    lengths: Tensor,
    *,
    spec: AttentionSpec,
    sinks: Tensor | None = None,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``softmax(cap(scale·q·kᵀ) + mask)·v`` in fp32, rounded once, and the natural log of the softmax's sum.

    ``query [n, heads, d]``: request i has the rows from ``query_starts[i]`` up to ``query_starts[i + 1]``, the last of
    its ``lengths[i]`` keys; pages ``[kv_heads, blocks, 16, d]``, times ``key_scale`` and ``value_scale [kv_heads]``
    where they are narrower; ``block_tables [·, blocks of a request]``, of which request i reads row ``rows[i]``.
    ``sinks [heads]`` are scores of a key without a value. Returns ``[n, heads · d]`` and fp32 ``[n, heads]``; a query
    that sees no key gets zeros and −∞ (or its sink), and so does one that no request has.
    """
    count, heads, head_dim = query.shape
    output = torch.zeros(count, heads, head_dim, dtype=torch.float32, device=query.device)
    log_sum = torch.full((count, heads), float("-inf"), dtype=torch.float32, device=query.device)
    for request in range(len(lengths)):
        start, stop = int(query_starts[request]), int(query_starts[request + 1])
        length = int(lengths[request])
        blocks = block_tables[int(rows[request])]
        keys = _gathered(key_pages, blocks, length, key_scale, heads)
        values = _gathered(value_pages, blocks, length, value_scale, heads)
        scores = torch.einsum("qhd,hkd->qhk", query[start:stop].float(), keys) * spec.scale
        if spec.softcap is not None:
            scores = spec.softcap * torch.tanh(scores / spec.softcap)
        hidden = _hidden(stop - start, length, spec.window).to(query.device)
        scores = scores.masked_fill(hidden[:, None, :], float("-inf"))
        if sinks is not None:
            sink = sinks.float()[None, :, None].expand(stop - start, heads, 1)
            scores = torch.cat((scores, sink), dim=-1)
        log_sum[start:stop] = scores.logsumexp(-1)
        # Where nothing is seen the sum is zero, and so is the output.
        weights = (scores - scores.logsumexp(-1, keepdim=True)).exp().nan_to_num(0.0)
        output[start:stop] = torch.einsum("qhk,hkd->qhd", weights[..., :length], values)
    return output.view(count, -1).to(query.dtype), log_sum


def _gathered(pages: Tensor, blocks: Tensor, length: int, scale: Tensor | None, heads: int) -> Tensor:
    """A request's keys or values in fp32, ``[heads, length, d]``."""
    kv_heads, _, page, head_dim = pages.shape
    own = blocks[: -(-length // page)].long()
    found = pages.view(torch.uint8)[:, own].view(pages.dtype) if pages.dtype.itemsize == 1 else pages[:, own]
    wide = found.float().reshape(kv_heads, -1, head_dim)[:, :length]
    if scale is not None:
        wide = wide * scale.float()[:, None, None]
    return wide.repeat_interleave(heads // kv_heads, dim=0)


def _hidden(queries: int, length: int, window: int | None) -> Tensor:
    """Which of ``length`` keys the last ``queries`` positions do not see."""
    position = torch.arange(length - queries, length)[:, None]
    key = torch.arange(length)[None, :]
    hidden = key > position
    if window is not None:
        hidden |= key <= position - window
    return hidden
