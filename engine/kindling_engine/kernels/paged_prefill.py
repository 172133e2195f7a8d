"""Prefill attention over paged KV: chunks of many requests, each after the keys that its request has already.

Per query head h of KV head g, over the keys k that a query sees (causal, within the window):

    out = Σ 2^(s_k − m)·v_k / (Σ 2^(s_k − m) + 2^(sink − m)),    s_k = log₂ e · cap(scale · q·k_k)

Rows of a tile are tokens times the query heads of a KV head, so that a tile of K and V serves the whole group, and
fewer of a tile's keys lie on the diagonal than with tokens alone. Keys that every row sees are swept without a mask,
apart from those at the window's edge before them and on the diagonal after them (FlashAttention-2; Dao, 2023).

Requests whose chunk is a few tokens after a long prefix belong to ``paged_decode``: here nothing cuts their keys.
"""

from collections.abc import Iterator
from functools import cache

import torch
import triton
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.paged_prefill_kernels import paged_prefill_kernel
from kindling_engine.kernels.paged_tiles import score_factor
from kindling_engine.kernels.tuning import TUNER, Config, Key
from kindling_engine.layers.attention_spec import AttentionSpec

CONFIGS = (
    Config({"BLOCK_M": 128, "BLOCK_N": 64}, num_warps=8, num_stages=3),
    Config({"BLOCK_M": 64, "BLOCK_N": 64}, num_warps=4, num_stages=3),
    Config({"BLOCK_M": 128, "BLOCK_N": 128}, num_warps=8, num_stages=3),
    Config({"BLOCK_M": 128, "BLOCK_N": 32}, num_warps=8, num_stages=3, registers=128),
    Config({"BLOCK_M": 128, "BLOCK_N": 32}, num_warps=8, num_stages=3),
)
"""Two stages would have nothing under way while a tile is multiplied. With at most 128 registers two thread blocks fit
a multiprocessor: one multiplies while the other has its softmax."""

_SHARED = 224 * 1024
_REGISTERS = 152
"""Of a thread's 255, what sums, scores and addresses may take: with more, the compiler was seen to spill."""
_OTHER_REGISTERS = 44
"""What else a thread has, where its registers are limited."""


def paged_prefill(
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
    max_query: int,
    out: Tensor | None = None,
    lse: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """As ``paged_reference``; returns ``[n, heads · d]``, or writes to ``out``.

    ``query [n, heads, d]``, whose tokens may lie apart; pages ``[kv_heads, blocks, 16, d]`` of query's dtype or e4m3,
    dequantised to query's dtype and multiplied by ``key_scale`` and ``value_scale`` fp32 ``[kv_heads]``;
    ``block_tables`` int32 ``[rows, blocks of a request]``, of which request i reads row ``rows[i]`` (int32 [b]);
    ``query_starts`` int32 [b + 1], ascending, the first need not be 0; ``lengths`` int32 [b]: all keys of each request,
    this chunk's included. ``sinks`` fp32 [heads]; ``lse`` fp32 ``[n, heads]`` takes natural logs, sinks included.

    A request may have no token. Rows that no request has are not written. ``max_query`` bounds the chunks; it and the
    shapes alone set the grid, and nothing waits for the device. Tiles run from the last request's last token to the
    first's first, so put long chunks behind short ones: what runs last should be short.
    """
    count, heads, head_dim = query.shape
    kv_heads, requests = key_pages.shape[0], rows.shape[0]
    group = heads // kv_heads
    assert key_pages.stride() == value_pages.stride() and key_pages[0].is_contiguous()
    assert query.stride(1) == head_dim and query.stride(2) == 1
    if out is None:
        out = query.new_empty(count, heads * head_dim)
    fitting = configs_for(head_dim, query.dtype, key_pages.dtype, _least_rows(max_query * group))
    chosen = config or TUNER.chosen(prefill_key(query, key_pages, spec, max_query), fitting)
    block_m = min(chosen.tiles["BLOCK_M"], _least_rows(max_query * group))
    items = count // (block_m // group) + requests
    arguments = {**chosen.arguments(), "BLOCK_M": block_m}
    paged_prefill_kernel[(kv_heads, items)](
        query,
        key_pages,
        value_pages,
        block_tables,
        rows,
        query_starts,
        lengths,
        sinks,
        key_scale,
        value_scale,
        out,
        lse,
        score_factor(spec),
        requests,
        query.stride(0),
        key_pages.stride(0),
        block_tables.stride(0),
        out.stride(0),
        GROUP=group,
        HEAD_DIM=head_dim,
        BLOCK_D=triton.next_power_of_2(head_dim),
        REQUESTS=max(32, triton.next_power_of_2(requests)),
        WINDOW=spec.window or 0,
        SOFTCAP=spec.softcap or 0.0,
        **arguments,
    )
    return out


def prefill_key(query: Tensor, key_pages: Tensor, spec: AttentionSpec, max_query: int) -> Key:
    """What a choice of configuration depends on."""
    group = query.shape[1] // key_pages.shape[0]
    rows = min(128, _least_rows(max_query * group))
    return (
        *("paged_prefill", query.shape[2], group, query.dtype, key_pages.dtype),
        *(rows, spec.window, spec.softcap),
    )


@cache
def configs_for(head_dim: int, dtype: torch.dtype, page_dtype: torch.dtype, rows: int) -> tuple[Config, ...]:
    """Those of CONFIGS that fit a multiprocessor; first those whose tiles ``rows`` of the longest chunk would fill."""
    largest = max(64, _least_rows(rows))
    fitting = [
        config for config in CONFIGS if _fits(config, triton.next_power_of_2(head_dim), dtype, page_dtype)
    ]
    return tuple(sorted(fitting, key=lambda config: config.tiles["BLOCK_M"] > largest))


def _fits(config: Config, columns: int, dtype: torch.dtype, page_dtype: torch.dtype) -> bool:
    """Whether shared memory holds the tiles under way, and registers a thread's part of the sums and addresses."""
    block_m, block_n = config.tiles["BLOCK_M"], config.tiles["BLOCK_N"]
    key_bytes = block_n * columns * page_dtype.itemsize
    shared = 2 * key_bytes * config.num_stages + block_m * columns * dtype.itemsize
    held = block_m * (columns + block_n) + key_bytes // 8
    most = min(_REGISTERS, (config.registers or 255) - _OTHER_REGISTERS)
    return shared <= _SHARED and held <= most * 32 * config.num_warps


def _least_rows(rows: int) -> int:
    """Of a tile that holds ``rows``: matrix units take 16 at least."""
    return max(16, triton.next_power_of_2(rows))


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: an 8 B model's heads in every configuration, and each feature in one."""
    wide = torch.bfloat16
    for config in configs_for(128, wide, wide, 128):
        yield _ahead_case("8b", config)
    yield _ahead_case("short", Config({"BLOCK_M": 16, "BLOCK_N": 64}, num_warps=4, num_stages=3), head_dim=96)
    yield _ahead_case("1b", head_dim=64)
    yield _ahead_case("0.6b", group=2)
    yield _ahead_case("e4m3", page_dtype=torch.float8_e4m3fn)
    yield _ahead_case("gemma", head_dim=256, group=2, window=1024, softcap=50.0)
    yield _ahead_case("oss", head_dim=64, group=8, window=128, sinks=torch.float32)


def _ahead_case(
    name: str,
    config: Config | None = None,
    *,
    page_dtype: torch.dtype = torch.bfloat16,
    head_dim: int = 128,
    group: int = 4,
    window: int = 0,
    softcap: float = 0.0,
    sinks: torch.dtype | None = None,
) -> Case:
    scale = torch.float32 if page_dtype.itemsize == 1 else None
    numbers = (0.125, 32, 1024, 1 << 32, 512, 1024)
    return Case(
        f"paged_prefill {name}",
        paged_prefill_kernel,
        (
            *(torch.bfloat16, page_dtype, page_dtype, *(torch.int32,) * 4),
            *(sinks, scale, scale, torch.bfloat16, None, *numbers),
        ),
        {
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "BLOCK_D": triton.next_power_of_2(head_dim),
            "REQUESTS": 32,
            "WINDOW": window,
            "SOFTCAP": softcap,
        },
        config or configs_for(head_dim, torch.bfloat16, page_dtype, 128)[0],
    )
