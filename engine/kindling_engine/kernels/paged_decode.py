"""Decode attention over paged KV: a handful of queries for each of many requests, bound by reading K and V once.

Per query head h of KV head g, over the keys k that a query sees (causal, within the window):

    out = Σ 2^(s_k − m)·v_k / (Σ 2^(s_k − m) + 2^(sink − m)),    s_k = log₂ e · cap(scale · q·k_k)

The query heads of a KV head, times the step's tokens, are the rows of one tile, so that K and V are read once for
all of them. Keys of long requests are cut into pieces that run side by side (Flash-Decoding; Dao et al., 2023), and
a second kernel merges what they leave. How many pieces a request gets is worked out on the device, from its share of
the batch's keys: one long request among short ones is cut fine, equal ones coarsely, and a captured graph stays right
whatever the lengths are when it is replayed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
import triton
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.paged_decode_kernels import merge_pieces_kernel, paged_decode_kernel
from kindling_engine.kernels.paged_tiles import score_factor
from kindling_engine.kernels.tuning import TUNER, Config, Key, size_class
from kindling_engine.layers.attention_spec import AttentionSpec

CONFIGS = (
    Config({"BLOCK_N": 64}, num_warps=4, num_stages=3),
    Config({"BLOCK_N": 32}, num_warps=4, num_stages=3),
    Config({"BLOCK_N": 32}, num_warps=2, num_stages=4),
    Config({"BLOCK_N": 32}, num_warps=4, num_stages=4),
)

_SHARED_OF_TWO = 113 * 1024
"""Shared memory of a thread block of which two fit a Hopper multiprocessor: one loads while the other computes."""
_SHARED_OF_ONE = 220 * 1024
_PIECES_PER_MULTIPROCESSOR = 8
"""Enough that the last pieces to run leave few multiprocessors idle, and that each still reads some 100 KB."""
_LARGEST_BLOCK_M = 64


@dataclass(frozen=True, slots=True)
class DecodeWorkspace:
    """What pieces leave for the merge: made once, for the largest launch, and good for all that run one after another.

    ``output`` and ``log_sum`` fp32, flat; ``pieces`` int32 [requests, 2]: a request's first piece and their number.
    """

    output: Tensor
    log_sum: Tensor
    pieces: Tensor

    @classmethod
    def make(
        cls,
        *,
        requests: int,
        q_len: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        max_splits: int,
        device: torch.device,
    ) -> "DecodeWorkspace":
        """For launches of at most these sizes; fewer requests with more tokens each want a look of their own."""
        rows = _pieces_bound(requests, q_len, heads // kv_heads, kv_heads, max_splits, device) * q_len * heads
        return cls(
            torch.empty(rows * head_dim, dtype=torch.float32, device=device),
            torch.empty(rows, dtype=torch.float32, device=device),
            torch.empty(requests, 2, dtype=torch.int32, device=device),
        )


def paged_decode(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    block_tables: Tensor,
    rows: Tensor,
    lengths: Tensor,
    *,
    spec: AttentionSpec,
    q_len: int = 1,
    sinks: Tensor | None = None,
    key_scale: Tensor | None = None,
    value_scale: Tensor | None = None,
    max_splits: int,
    workspace: DecodeWorkspace | None,
    out: Tensor | None = None,
    lse: Tensor | None = None,
    config: Config | None = None,
) -> Tensor:
    """As ``paged_reference`` with ``q_len`` rows a request; returns ``[n · q_len, heads · d]``, or writes to ``out``.

    ``query [n · q_len, heads, d]``, whose tokens may lie apart; pages ``[kv_heads, blocks, 16, d]`` of query's dtype or
    e4m3, dequantised to query's dtype and multiplied by ``key_scale`` and ``value_scale`` fp32 ``[kv_heads]``;
    ``block_tables`` int32 ``[rows, blocks of a request]``, of which request i reads row ``rows[i]`` (int32 [n]);
    ``lengths`` int32 [n]: keys of each request, this step's ``q_len`` included; 0 is a graph's padding and gets zeros.
    ``sinks`` fp32 [heads]; ``lse`` fp32 ``[n · q_len, heads]`` takes natural logs, sinks included.

    ``max_splits`` bounds the pieces of a request's keys; 1 cuts none, wants no workspace and launches one kernel.
    The grid depends on n, ``q_len`` and ``max_splits`` alone, and nothing waits for the device.
    """
    tokens, heads, head_dim = query.shape
    kv_heads = key_pages.shape[0]
    requests, group = tokens // q_len, heads // kv_heads
    assert key_pages.stride() == value_pages.stride() and key_pages[0].is_contiguous()
    assert query.stride(1) == head_dim and query.stride(2) == 1 and tokens == requests * q_len
    if out is None:
        out = query.new_empty(tokens, heads * head_dim)
    splits = max_splits > 1
    chosen = config or TUNER.chosen(
        decode_key(query, key_pages, spec, q_len=q_len, splits=splits),
        configs_for(head_dim, key_pages.dtype),
    )
    items = _pieces_bound(requests, q_len, group, kv_heads, max_splits, query.device) if splits else requests
    left = workspace
    if splits:
        assert left is not None, "pieces need a workspace"
        assert items * q_len * heads <= left.log_sum.numel() and requests <= left.pieces.shape[0]
        assert left.log_sum.numel() * head_dim <= left.output.numel()
    block_m = _block_m(q_len, group)
    shape = {
        "Q_LEN": q_len,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "BLOCK_D": triton.next_power_of_2(head_dim),
    }
    paged_decode_kernel[(items * triton.cdiv(q_len * group, block_m), kv_heads)](
        query,
        key_pages,
        value_pages,
        block_tables,
        rows,
        lengths,
        sinks,
        key_scale,
        value_scale,
        out,
        lse,
        left.output if left else None,
        left.log_sum if left else None,
        left.pieces if left else None,
        score_factor(spec),
        requests,
        _wanted(query.device, q_len, group, kv_heads),
        max_splits,
        query.stride(0),
        key_pages.stride(0),
        block_tables.stride(0),
        out.stride(0),
        **shape,
        BLOCK_M=block_m,
        REQUESTS=max(32, triton.next_power_of_2(requests)),
        WINDOW=spec.window or 0,
        SOFTCAP=spec.softcap or 0.0,
        SPLITS=splits,
        **chosen.arguments(),
    )
    if splits:
        assert left is not None
        merge_pieces_kernel[(tokens, heads)](
            left.output,
            left.log_sum,
            left.pieces,
            sinks,
            out,
            lse,
            out.stride(0),
            **shape,
            PIECES=16,
            num_warps=4,
        )
    return out


def decode_key(query: Tensor, key_pages: Tensor, spec: AttentionSpec, *, q_len: int = 1, splits: bool) -> Key:
    """What a choice of configuration depends on."""
    tokens, heads, head_dim = query.shape
    kv_heads = key_pages.shape[0]
    return (
        *("paged_decode", head_dim, heads // kv_heads, kv_heads, query.dtype, key_pages.dtype),
        *(q_len, spec.window, spec.softcap, splits, size_class(tokens // q_len)),
    )


@cache
def configs_for(head_dim: int, page_dtype: torch.dtype) -> tuple[Config, ...]:
    """Those of CONFIGS whose tiles fit, the ones that fit a multiprocessor twice first."""
    row_bytes = 2 * triton.next_power_of_2(head_dim) * page_dtype.itemsize

    def shared(config: Config) -> int:
        # Pages under way: a tile less than stages.
        return row_bytes * config.tiles["BLOCK_N"] * (config.num_stages - 1)

    fitting = [config for config in CONFIGS if shared(config) <= _SHARED_OF_ONE]
    return tuple(sorted(fitting, key=lambda config: shared(config) > _SHARED_OF_TWO))


def _block_m(q_len: int, group: int) -> int:
    """Rows of a tile: 16 is the least that matrix units take."""
    return min(_LARGEST_BLOCK_M, max(16, triton.next_power_of_2(q_len * group)))


def _wanted(device: torch.device, q_len: int, group: int, kv_heads: int) -> int:
    """Pieces that would fill the device, over all requests."""
    side_by_side = kv_heads * triton.cdiv(q_len * group, _block_m(q_len, group))
    return triton.cdiv(_PIECES_PER_MULTIPROCESSOR * _multiprocessors(device), side_by_side)


def _pieces_bound(
    requests: int, q_len: int, group: int, kv_heads: int, max_splits: int, device: torch.device
) -> int:
    """The most pieces that the kernel makes: a piece has a wanted-th of all keys, but for the last of each request."""
    return min(requests * max_splits, requests + _wanted(device, q_len, group, kv_heads))


@cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: an 8 B model's heads in every configuration, and each feature in one."""
    for config in configs_for(128, torch.bfloat16):
        yield _ahead_case("8b", config)
    yield _ahead_case("verify", q_len=64)
    yield _ahead_case("1b", head_dim=64)
    yield _ahead_case("0.6b", group=2)
    yield _ahead_case("e4m3", page_dtype=torch.float8_e4m3fn)
    yield _ahead_case("gemma", head_dim=256, group=2, window=1024, softcap=50.0)
    yield _ahead_case("oss", head_dim=64, group=8, window=128, sinks=torch.float32)
    yield _ahead_case("uncut", head_dim=96, group=1, q_len=4, splits=False)
    for sinks, lse in ((None, None), (torch.float32, torch.float32)):
        yield Case(
            f"paged_decode merge{' with sinks' if sinks else ''}",
            merge_pieces_kernel,
            (torch.float32, torch.float32, torch.int32, sinks, torch.bfloat16, lse, 4096),
            {"Q_LEN": 1, "GROUP": 4, "HEAD_DIM": 128, "BLOCK_D": 128, "PIECES": 16},
            Config(num_warps=4),
        )


def _ahead_case(
    name: str,
    config: Config | None = None,
    *,
    page_dtype: torch.dtype = torch.bfloat16,
    head_dim: int = 128,
    group: int = 4,
    q_len: int = 1,
    window: int = 0,
    softcap: float = 0.0,
    sinks: torch.dtype | None = None,
    splits: bool = True,
) -> Case:
    scale = torch.float32 if page_dtype.itemsize == 1 else None
    left = (torch.float32, torch.float32, torch.int32) if splits else (None, None, None)
    strides = (1024, 1 << 32, 512, 1024)
    numbers = (0.125, 32, 132, 8, *strides)
    return Case(
        f"paged_decode {name}",
        paged_decode_kernel,
        (
            *(torch.bfloat16, page_dtype, page_dtype, torch.int32, torch.int32, torch.int32),
            *(sinks, scale, scale, torch.bfloat16, None, *left, *numbers),
        ),
        {
            "Q_LEN": q_len,
            "GROUP": group,
            "HEAD_DIM": head_dim,
            "BLOCK_D": triton.next_power_of_2(head_dim),
            "BLOCK_M": _block_m(q_len, group),
            "REQUESTS": 32,
            "WINDOW": window,
            "SOFTCAP": softcap,
            "SPLITS": splits,
        },
        config or configs_for(head_dim, page_dtype)[0],
    )
