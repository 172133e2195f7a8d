"""Our kernels for whoever brings queries, keys and values of its own: transformers' modules on a GPU."""

from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from kindling_engine.kernels.paged_decode import DecodeWorkspace, paged_decode
from kindling_engine.kernels.paged_prefill import paged_prefill
from kindling_engine.layers.attention_paged import (
    PagedDecode,
    PagedInputs,
    PagedPrefill,
    kernels_take,
    splits_for,
)
from kindling_engine.layers.attention_reference import paged_attention_reference, store
from kindling_engine.layers.attention_rows import AttentionInputs
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache


class KernelAttention:
    """Attention as the reference does it, which takes what no kernel does; all layers of a step share its rows."""

    def __init__(self) -> None:
        self._step: tuple[AttentionInputs, PagedInputs] | None = None

    def __call__(  # noqa: PLR0917, in the order of every implementation
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cache: LayerCache,
        inputs: AttentionInputs,
        spec: AttentionSpec,
    ) -> Tensor:
        """Store this step's K and V, then attend; shapes as in the reference."""
        _, heads, head_dim = query.shape
        if not kernels_take(head_dim, heads // cache.key_pages.shape[0], query.dtype):
            return paged_attention_reference(query, key, value, cache, inputs, spec)
        store(key, value, cache, inputs)
        rows = self._rows(inputs, query.device)
        out = query.new_empty(query.shape[0], heads * head_dim)
        decodes = 0 if rows.decode is None else rows.decode.rows.shape[0]
        if rows.decode is not None:
            _decode(query[:decodes], cache, rows, rows.decode, spec, out[:decodes])
        if rows.prefill is not None:
            paged_prefill(
                query[decodes:],
                cache.key_pages,
                cache.value_pages,
                rows.tables,
                rows.prefill.rows,
                rows.prefill.starts,
                rows.prefill.lengths,
                spec=spec,
                sinks=spec.sinks,
                key_scale=cache.key_scale,
                value_scale=cache.value_scale,
                max_query=rows.prefill.max_query,
                out=out[decodes:],
            )
        return out

    def _rows(self, inputs: AttentionInputs, device: torch.device) -> PagedInputs:
        step = self._step
        if step is None or step[0] is not inputs:
            step = self._step = (inputs, rows_send(inputs, device))
        return step[1]


def _decode(  # noqa: PLR0917
    query: Tensor, cache: LayerCache, rows: PagedInputs, decode: PagedDecode, spec: AttentionSpec, out: Tensor
) -> None:
    workspace = None
    if rows.max_splits > 1:
        workspace = DecodeWorkspace.make(
            requests=query.shape[0],
            q_len=1,
            heads=query.shape[1],
            kv_heads=cache.key_pages.shape[0],
            head_dim=query.shape[2],
            max_splits=rows.max_splits,
            device=query.device,
        )
    paged_decode(
        query,
        cache.key_pages,
        cache.value_pages,
        rows.tables,
        decode.rows,
        decode.lengths,
        spec=spec,
        sinks=spec.sinks,
        key_scale=cache.key_scale,
        value_scale=cache.value_scale,
        max_splits=rows.max_splits,
        workspace=workspace,
        out=out,
    )


def rows_send(inputs: AttentionInputs, device: torch.device) -> PagedInputs:
    """A step's rows, which the host made, as kernels read them: one table of blocks for each row."""
    decode, prefills = inputs.decode, inputs.prefills
    decodes = 0 if decode is None else decode.count
    tables = [] if decode is None else list(decode.blocks)
    tables += [rows.blocks for rows in prefills]
    table = np.zeros((len(tables), max(map(len, tables))), dtype=np.int32)
    for row, blocks in enumerate(tables):
        table[row, : len(blocks)] = blocks
    lengths = [] if decode is None else decode.lengths.tolist()
    lengths += [rows.position + rows.count for rows in prefills]
    sent = _ints(lengths, device)
    rows = torch.arange(len(tables), dtype=torch.int32, device=device)
    return PagedInputs(
        slots=inputs.slots,
        tables=torch.from_numpy(table).to(device),
        decode=PagedDecode(rows[:decodes], sent[:decodes]) if decodes else None,
        prefill=PagedPrefill(
            rows[decodes:],
            _ints([0, *accumulate(one.count for one in prefills)], device),
            sent[decodes:],
            max(one.count for one in prefills),
        )
        if prefills
        else None,
        max_splits=splits_for(max(lengths)),
        workspace=None,
    )


def _ints(values: list[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.int32, device=device)
