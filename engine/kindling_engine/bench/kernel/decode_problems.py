"""Decode attention: batches and contexts as they are served, in bf16 and over an e4m3 cache."""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor

from kindling_engine.bench.kernel.attention_peers import attention_peers
from kindling_engine.bench.kernel.problem import Problem
from kindling_engine.kernels.paged_decode import DecodeWorkspace, configs_for, paged_decode
from kindling_engine.kernels.paged_inputs import (
    LLAMA_8B_HEADS,
    QWEN3_06B_HEADS,
    PagedInputs,
    Shape,
    cache_layers,
    paged_inputs,
)
from kindling_engine.kernels.paged_reference import paged_reference
from kindling_engine.kernels.tuning import Config
from kindling_engine.layers.attention_spec import AttentionSpec

MAX_SPLITS = 64
_LAYERS = 32
_COMPILED_LOAD = (32, 4096)
"""Compiled for all of them, a peer would take most of the bench's minutes."""
_LOADS = ((1, 1024), (1, 16384), (32, 1024), (32, 4096), (32, 16384), (128, 1024), (128, 4096), (256, 1024))


def decode_problems(
    device: torch.device,
    dtype: torch.dtype,
    *,
    shapes: tuple[Shape, ...] = (LLAMA_8B_HEADS, QWEN3_06B_HEADS),
    loads: tuple[tuple[int, int], ...] = _LOADS,
    q_len: int = 8,
) -> Iterator[Problem]:
    """Each load of (requests, keys) with one query a request; the first shape also with several, over e4m3, and in a
    cache whose blocks have all layers, where the others have one layer's pages by themselves.
    """
    for shape in shapes:
        for requests, length in loads:
            yield decode_problem(shape, requests, length, dtype, device)
    requests, length = loads[len(loads) // 2 - 1]
    yield decode_problem(shapes[0], requests, length, dtype, device, q_len=q_len)
    yield decode_problem(shapes[0], requests, length, dtype, device, page_dtype=torch.float8_e4m3fn)
    yield decode_problem(shapes[0], requests, length, dtype, device, layers=_LAYERS)


def decode_problem(
    shape: Shape,
    requests: int,
    length: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    q_len: int = 1,
    page_dtype: torch.dtype | None = None,
    layers: int = 1,
) -> Problem:
    """One row. Over e4m3 pages, and in a cache of several ``layers``, only our own reference says what is right."""
    pages = page_dtype or dtype
    spec = AttentionSpec(1 / math.sqrt(shape.head_dim))
    scale = torch.ones(shape.kv_heads, device=device) if page_dtype else None
    workspace = DecodeWorkspace.make(
        requests=requests,
        q_len=q_len,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_splits=MAX_SPLITS,
        device=device,
    )

    @cache
    def served() -> list[PagedInputs]:
        return cache_layers(
            shape, requests=requests, length=length, layers=layers, dtype=dtype, device=device, seed=0
        )

    def inputs(index: int) -> PagedInputs:
        if layers > 1:
            return served()[index % layers]
        return paged_inputs(
            shape,
            requests=requests,
            q_len=q_len,
            length=length,
            dtype=dtype,
            page_dtype=pages,
            device=device,
            seed=index,
        )

    def ours(one: PagedInputs, config: Config | None) -> Tensor:
        return paged_decode(
            one.query,
            one.key_pages,
            one.value_pages,
            one.tables,
            one.rows,
            one.lengths,
            spec=spec,
            q_len=q_len,
            key_scale=scale,
            value_scale=scale,
            max_splits=MAX_SPLITS,
            workspace=workspace,
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
            key_scale=scale,
            value_scale=scale,
        )[0]

    rows = requests * q_len * shape.heads * shape.head_dim * dtype.itemsize
    keys = 2 * requests * length * shape.kv_heads * shape.head_dim * pages.itemsize
    return Problem(
        op="decode_attention",
        shape=f"{shape}, {requests} × {q_len} queries, {length:,} keys"
        + (f", a layer of {layers}" if layers > 1 else ""),
        dtype=str(pages).removeprefix("torch."),
        inputs=inputs,
        ours=ours,
        reference=reference,
        configs=configs_for(shape.head_dim, pages),
        tolerance=1e-5 if dtype == torch.float32 else 2e-2,
        bytes_read=keys + rows,
        bytes_written=rows,
        flops=4.0 * requests * q_len * length * shape.heads * shape.head_dim,
        peers={}
        if page_dtype or layers > 1
        else attention_peers(compiled=(requests, length) == _COMPILED_LOAD),
    )
