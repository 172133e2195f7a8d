"""From one projection to attention's inputs in one launch: QK-norm, rotary embedding, and K and V into their pages.

Memory-bound: every element of ``qkv`` is read once and written once. A program takes some heads of one token, all of
queries, of keys or of values; a head is held as its two rotated halves and what lies behind them, so that rotation
(Su et al., 2021) needs no second load: ``(a, b) → (a·cos − b·sin, b·cos + a·sin)``. All arithmetic is fp32, rounded
once at the store, where the layers round after the norm and after each product.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.language import to_e4m3
from kindling_engine.kernels.tuning import TUNER, Config, Key, size_class
from kindling_engine.layers.rotary import RotaryTables, rotate

CONFIGS = tuple(
    Config({"HEADS_BLOCK": heads}, num_warps=warps, num_stages=1)
    for heads, warps in ((8, 4), (4, 2), (4, 4), (16, 4))
)


@dataclass(frozen=True, slots=True)
class QkNorm:
    """RMS norm of each head: weights ``[d]`` in fp32 or the model's dtype; ``centred`` ones mean 1 + w."""

    query: Tensor
    key: Tensor
    eps: float
    centred: bool = False


@dataclass(frozen=True, slots=True)
class KvTarget:
    """Where K and V go: pages ``[kv_heads, blocks, 16, d]``, contiguous, and ``slots`` int64 ``[n]``.

    A slot is ``block · 16 + offset``; −1 is a row that only fills up a graph and writes nothing. Pages in e4m3 hold
    numbers divided by ``key_scale`` and ``value_scale``, fp32 ``[kv_heads]``.
    """

    key_pages: Tensor
    value_pages: Tensor
    slots: Tensor
    key_scale: Tensor | None = None
    value_scale: Tensor | None = None


def rope_kv_reference(
    qkv: Tensor, tables: RotaryTables | None, norm: QkNorm | None, target: KvTarget, *, heads: int
) -> Tensor:
    """Queries ``[n, heads, d]`` of ``qkv [n, (heads + 2 · kv_heads) · d]``; K and V are put into their slots.

    ``tables`` are cosines and signed sines ``[n, 1, dim]``, as ``layers.rotary`` makes them; dimensions behind
    ``dim`` stay as they are. All in fp32, rounded once.
    """
    query, key, value = rope_reference(qkv, tables, norm, heads=heads, kv_heads=target.key_pages.shape[0])
    _put(target.key_pages, key, target.slots, target.key_scale)
    _put(target.value_pages, value, target.slots, target.value_scale)
    return query.to(qkv.dtype).contiguous()


def rope_reference(
    qkv: Tensor, tables: RotaryTables | None, norm: QkNorm | None, *, heads: int, kv_heads: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of ``rope_kv_reference``, fp32 ``[n, heads or kv_heads, d]``, put nowhere."""
    query, key, value = (
        qkv.float().unflatten(1, (heads + 2 * kv_heads, -1)).split((heads, kv_heads, kv_heads), 1)
    )
    if norm is not None:
        query, key = _normed(query, norm.query, norm), _normed(key, norm.key, norm)
    if tables is not None:
        wide_tables = tables[0].float(), tables[1].float()
        query, key = rotate(query, wide_tables), rotate(key, wide_tables)
    return query, key, value


def _normed(x: Tensor, weight: Tensor, norm: QkNorm) -> Tensor:
    factor = weight.float() + 1.0 if norm.centred else weight.float()
    return torch.rms_norm(x, x.shape[-1:], factor, norm.eps)


def _put(pages: Tensor, states: Tensor, slots: Tensor, scale: Tensor | None) -> None:
    if scale is not None:
        states = (states / scale[None, :, None]).clamp(-448.0, 448.0)
    written = slots >= 0
    flat = pages.view(pages.shape[0], -1, pages.shape[3])
    flat[:, slots[written]] = states[written].transpose(0, 1).to(pages.dtype)


def rope_kv(
    qkv: Tensor,
    tables: RotaryTables | None,
    norm: QkNorm | None,
    target: KvTarget,
    *,
    heads: int,
    config: Config | None = None,
) -> Tensor:
    """As ``rope_kv_reference``; rows of ``qkv`` contiguous, though they may lie apart.

    The second half of the cosines is taken to repeat the first, and the sines to differ by their sign alone, as
    rotate-half has them. Queries of rows without a slot are computed as well.
    """
    rows = qkv.shape[0]
    kv_heads, head_dim = target.key_pages.shape[0], target.key_pages.shape[3]
    chosen = config or TUNER.chosen(rope_key(qkv, tables, norm, target), CONFIGS)
    block = chosen.tiles["HEADS_BLOCK"]
    dim = head_dim if tables is None else tables[0].shape[-1]
    query = torch.empty((rows, heads, head_dim), dtype=qkv.dtype, device=qkv.device)
    cos, sin = (query, query) if tables is None else tables
    q_weight, k_weight, eps = (query, query, 0.0) if norm is None else (norm.query, norm.key, norm.eps)
    scaled = target.key_scale is not None
    _rope_kv_kernel[(rows, triton.cdiv(heads, block) + 2 * triton.cdiv(kv_heads, block))](
        qkv,
        cos,
        sin,
        q_weight,
        k_weight,
        query,
        target.key_pages,
        target.value_pages,
        target.slots,
        target.key_scale if scaled else query,
        target.value_scale if scaled else query,
        eps,
        qkv.stride(0),
        target.key_pages.stride(0),
        **_constants(heads, kv_heads, head_dim, dim),
        ROTATES=tables is not None,
        NORMS=norm is not None,
        CENTRED=norm is not None and norm.centred,
        SCALED=scaled,
        **chosen.arguments(),
    )
    return query


def rope_key(qkv: Tensor, tables: RotaryTables | None, norm: QkNorm | None, target: KvTarget) -> Key:
    """What a choice of configuration depends on."""
    kv_heads, head_dim = target.key_pages.shape[0], target.key_pages.shape[3]
    dim = None if tables is None else tables[0].shape[-1]
    rows, width = qkv.shape
    return (
        *("rope_kv", width // head_dim, kv_heads, head_dim, dim, norm is not None),
        *(qkv.dtype, target.key_pages.dtype, size_class(rows)),
    )


def _constants(heads: int, kv_heads: int, head_dim: int, dim: int) -> dict[str, int]:
    rest = head_dim - dim
    return {
        "HEADS": heads,
        "KV_HEADS": kv_heads,
        "HEAD_DIM": head_dim,
        "HALF": dim // 2,
        "REST": rest,
        "BLOCK_HALF": triton.next_power_of_2(dim // 2),
        "BLOCK_REST": triton.next_power_of_2(max(rest, 1)),
    }


@triton.jit
def _rope_kv_kernel(
    qkv,
    cos,
    signed_sin,
    query_weight,
    key_weight,
    query,
    key_pages,
    value_pages,
    slots,
    key_scale,
    value_scale,
    eps,
    qkv_stride,
    head_stride,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
    ROTATES: tl.constexpr,
    NORMS: tl.constexpr,
    CENTRED: tl.constexpr,
    SCALED: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(1)
    query_tiles: tl.constexpr = (HEADS + HEADS_BLOCK - 1) // HEADS_BLOCK
    key_tiles: tl.constexpr = (KV_HEADS + HEADS_BLOCK - 1) // HEADS_BLOCK
    head = tl.arange(0, HEADS_BLOCK)
    source = qkv + row * qkv_stride
    if tile < query_tiles:
        head += tile * HEADS_BLOCK
        low, high, rest = _states(source, head, HEADS, HEAD_DIM, HALF, REST, BLOCK_HALF, BLOCK_REST)
        if NORMS:
            low, high, rest = _norm(
                low, high, rest, query_weight, eps, HEAD_DIM, HALF, REST, BLOCK_HALF, BLOCK_REST, CENTRED
            )
        if ROTATES:
            low, high = _rotate(low, high, cos, signed_sin, row, HALF, BLOCK_HALF)
        start = query + (row * HEADS + head) * HEAD_DIM
        _write(start, head < HEADS, low, high, rest, HALF, REST, BLOCK_HALF, BLOCK_REST)
    else:
        # Read now and asked at the stores alone, so that states need not wait for the slot.
        slot = tl.load(slots + row)
        if tile < query_tiles + key_tiles:
            head += (tile - query_tiles) * HEADS_BLOCK
            low, high, rest = _states(
                source + HEADS * HEAD_DIM, head, KV_HEADS, HEAD_DIM, HALF, REST, BLOCK_HALF, BLOCK_REST
            )
            if NORMS:
                low, high, rest = _norm(
                    low, high, rest, key_weight, eps, HEAD_DIM, HALF, REST, BLOCK_HALF, BLOCK_REST, CENTRED
                )
            if ROTATES:
                low, high = _rotate(low, high, cos, signed_sin, row, HALF, BLOCK_HALF)
            _keep(
                key_pages + head.to(tl.int64) * head_stride + slot * HEAD_DIM, slot, key_scale, head,
                low, high, rest, KV_HEADS, HALF, REST, BLOCK_HALF, BLOCK_REST, SCALED,
            )  # fmt: skip
        else:
            head += (tile - query_tiles - key_tiles) * HEADS_BLOCK
            low, high, rest = _states(
                source + (HEADS + KV_HEADS) * HEAD_DIM, head,
                KV_HEADS, HEAD_DIM, HALF, REST, BLOCK_HALF, BLOCK_REST,
            )  # fmt: skip
            _keep(
                value_pages + head.to(tl.int64) * head_stride + slot * HEAD_DIM, slot, value_scale, head,
                low, high, rest, KV_HEADS, HALF, REST, BLOCK_HALF, BLOCK_REST, SCALED,
            )  # fmt: skip


@triton.jit
def _keep(
    start,
    slot,
    scales,
    head,
    low,
    high,
    rest,
    KV_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
    SCALED: tl.constexpr,
):
    """Put heads of K or V where they belong, if the row has a slot."""
    if SCALED:
        low, high, rest = _shrunk(low, high, rest, scales, head, KV_HEADS)
    _write(start, (head < KV_HEADS) & (slot >= 0), low, high, rest, HALF, REST, BLOCK_HALF, BLOCK_REST)


@triton.jit
def _states(
    source,
    head,
    COUNT: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    """Both halves ``[HEADS_BLOCK, BLOCK_HALF]`` of some heads and the rest behind them, fp32, zero outside."""
    column = tl.arange(0, BLOCK_HALF)[None, :]
    start = source + (head * HEAD_DIM)[:, None] + column
    inside = (head < COUNT)[:, None] & (column < HALF)
    low = tl.load(start, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(start + HALF, mask=inside, other=0.0).to(tl.float32)
    behind = tl.arange(0, BLOCK_REST)[None, :]
    inside = (head < COUNT)[:, None] & (behind < REST)
    rest = tl.load(source + (head * HEAD_DIM + 2 * HALF)[:, None] + behind, mask=inside, other=0.0)
    return low, high, rest.to(tl.float32)


@triton.jit
def _norm(
    low,
    high,
    rest,
    weight,
    eps,
    HEAD_DIM: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
    CENTRED: tl.constexpr,
):
    column = tl.arange(0, BLOCK_HALF)
    behind = tl.arange(0, BLOCK_REST)
    low_weight = tl.load(weight + column, mask=column < HALF, other=0.0).to(tl.float32)
    high_weight = tl.load(weight + HALF + column, mask=column < HALF, other=0.0).to(tl.float32)
    rest_weight = tl.load(weight + 2 * HALF + behind, mask=behind < REST, other=0.0).to(tl.float32)
    if CENTRED:
        low_weight += 1.0
        high_weight += 1.0
        rest_weight += 1.0
    total = tl.sum(low * low + high * high, axis=1) + tl.sum(rest * rest, axis=1)
    scale = tl.rsqrt(total / HEAD_DIM + eps)[:, None]
    return (
        low * scale * low_weight[None, :],
        high * scale * high_weight[None, :],
        rest * scale * rest_weight[None, :],
    )


@triton.jit
def _rotate(low, high, cos, signed_sin, row, HALF: tl.constexpr, BLOCK_HALF: tl.constexpr):
    column = tl.arange(0, BLOCK_HALF)
    place = row * (2 * HALF) + HALF + column
    c = tl.load(cos + place, mask=column < HALF, other=0.0).to(tl.float32)[None, :]
    s = tl.load(signed_sin + place, mask=column < HALF, other=0.0).to(tl.float32)[None, :]
    return low * c - high * s, high * c + low * s


@triton.jit
def _shrunk(low, high, rest, scales, head, COUNT: tl.constexpr):
    """As e4m3, divided by the head's scale."""
    scale = tl.load(scales + head, mask=head < COUNT, other=1.0)[:, None]
    low = to_e4m3(tl.div_rn(low, tl.broadcast_to(scale, low.shape)))
    high = to_e4m3(tl.div_rn(high, tl.broadcast_to(scale, high.shape)))
    rest = to_e4m3(tl.div_rn(rest, tl.broadcast_to(scale, rest.shape)))
    return low, high, rest


@triton.jit
def _write(
    start,
    inside,
    low,
    high,
    rest,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_HALF: tl.constexpr,
    BLOCK_REST: tl.constexpr,
):
    """Store heads at the pointers ``start [HEADS_BLOCK]``."""
    column = tl.arange(0, BLOCK_HALF)[None, :]
    half = start[:, None] + column
    mask = inside[:, None] & (column < HALF)
    tl.store(half, low.to(start.dtype.element_ty), mask=mask)
    tl.store(half + HALF, high.to(start.dtype.element_ty), mask=mask)
    if REST > 0:
        behind = tl.arange(0, BLOCK_REST)[None, :]
        mask = inside[:, None] & (behind < REST)
        tl.store(start[:, None] + 2 * HALF + behind, rest.to(start.dtype.element_ty), mask=mask)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: Llama 8 B in every configuration; Qwen3's norms, partial rotation and e4m3."""
    for config in CONFIGS:
        yield _case("llama", config, (32, 8, 128, 128))
    yield _case("qwen3 e4m3", CONFIGS[0], (16, 8, 128, 128), norms=True, pages=torch.float8_e4m3fn)
    yield _case("partial centred", CONFIGS[0], (16, 2, 256, 64), norms=True, centred=True)


def _case(
    name: str,
    config: Config,
    shape: tuple[int, int, int, int],
    *,
    norms: bool = False,
    centred: bool = False,
    pages: torch.dtype = torch.bfloat16,
) -> Case:
    heads, kv_heads, head_dim, _ = shape
    scale = torch.float32 if pages.itemsize == 1 else torch.bfloat16
    return Case(
        f"rope_kv {name}",
        _rope_kv_kernel,
        (
            *(torch.bfloat16,) * 6,
            *(pages, pages, torch.int64, scale, scale),
            1e-6,
            (heads + 2 * kv_heads) * head_dim,
            4096 * 16 * head_dim,
        ),
        {
            **_constants(*shape),
            "ROTATES": True,
            "NORMS": norms,
            "CENTRED": centred,
            "SCALED": pages.itemsize == 1,
        },
        config,
    )
