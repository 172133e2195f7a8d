"""Prefill attention: whole prompts, several at once, and a chunk behind a long cached prefix."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kindling_engine.bench.kernel.attention_peers import attention_peers
from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels.paged_inputs import LLAMA_8B_HEADS, PagedInputs, Shape, paged_inputs
from kindling_engine.kernels.paged_prefill import configs_for, paged_prefill
from kindling_engine.kernels.paged_reference import paged_reference
from kindling_engine.kernels.tuning import Config
from kindling_engine.layers.attention_spec import AttentionSpec

_LOADS = ((1, 1024, 1024), (8, 1024, 1024), (1, 8192, 8192), (4, 2048, 8192))


def prefill_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    shape: Shape = LLAMA_8B_HEADS,
    loads: tuple[tuple[int, int, int], ...] = _LOADS,
) -> Iterator[Problem]:
    """Each load of (requests, queries, keys)."""
    for load in loads:
        yield _problem(shape, load, dtype, device)


def _problem(shape: Shape, load: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Problem:
    requests, queries, keys = load
    spec = AttentionSpec(1 / math.sqrt(shape.head_dim))

    def inputs(index: int) -> PagedInputs:
        return paged_inputs(
            shape,
            requests=requests,
            q_len=queries,
            length=keys,
            dtype=dtype,
            page_dtype=dtype,
            device=device,
            seed=index,
        )

    def ours(one: PagedInputs, config: Config | None) -> Tensor:
        return paged_prefill(
            one.query,
            one.key_pages,
            one.value_pages,
            one.tables,
            one.rows,
            one.starts,
            one.lengths,
            spec=spec,
            max_query=queries,
            config=config,
        )

    def reference(one: PagedInputs) -> Tensor:
        return paged_reference(
            one.query,
            one.key_pages,
            one.value_pages,
            one.tables,
            one.rows,
            one.starts,
            one.lengths,
            spec=spec,
        )[0]

    # Pairs of a query and a key that it sees.
    seen = requests * (queries * (keys - queries) + queries * (queries + 1) / 2)
    rows = requests * queries * shape.heads * shape.head_dim * dtype.itemsize
    group = shape.heads // shape.kv_heads
    return Problem(
        op="prefill_attention",
        shape=f"{shape}, {requests} × {queries:,} queries, {keys:,} keys",
        dtype=str(dtype).removeprefix("torch."),
        inputs=inputs,
        ours=ours,
        reference=reference,
        configs=configs_for(shape.head_dim, dtype, dtype, queries * group),
        tolerance=1e-5 if dtype == torch.float32 else 2e-2,
        bytes_read=2 * requests * keys * shape.kv_heads * shape.head_dim * dtype.itemsize + rows,
        bytes_written=rows,
        flops=4.0 * seen * shape.heads * shape.head_dim,
        peers=attention_peers(),
    )
