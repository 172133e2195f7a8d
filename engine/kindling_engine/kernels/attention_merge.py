"""Attention over two sets of keys, from the attention over either.

    out = (e^a·out_a + e^b·out_b) / (e^a + e^b),    a and b the parts' log-sums

A prefix that many requests share can then be read once for all of them (Hydragen; Juravsky et al., 2024).
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.paged_tiles import LN_2, LOG2_E
from kindling_engine.kernels.tuning import Config

CONFIGS = tuple(
    Config({"BLOCK_H": rows}, num_warps=warps, num_stages=1) for rows, warps in ((4, 1), (8, 2), (32, 4))
)

_LN_2 = tl.constexpr(LN_2)
_LOG2_E = tl.constexpr(LOG2_E)


def merge_reference(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
    """Each part's output weighted by its share of the softmax's sum, in fp32, rounded once; and the whole's log-sum.

    ``out_a``, ``out_b`` [n, heads · d]; ``lse_a``, ``lse_b`` fp32 [n, heads], natural logs, −∞ where a part has no key.
    A sink belongs to one part alone. Where both parts are empty the output is zero.
    """
    count, heads = lse_a.shape
    lse = torch.logaddexp(lse_a, lse_b)
    share_a = (lse_a - lse).exp().nan_to_num(0.0)[..., None]
    share_b = (lse_b - lse).exp().nan_to_num(0.0)[..., None]
    a, b = out_a.float().view(count, heads, -1), out_b.float().view(count, heads, -1)
    return (share_a * a + share_b * b).view(count, -1).to(out_a.dtype), lse


def merge_attention(
    out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor, config: Config | None = None
) -> tuple[Tensor, Tensor]:
    """As ``merge_reference``, all contiguous; writes over ``out_a`` and ``lse_a`` and returns them."""
    count, heads = lse_a.shape
    head_dim = out_a.shape[1] // heads
    assert all(one.is_contiguous() for one in (out_a, lse_a, out_b, lse_b)) and out_a.shape == out_b.shape
    chosen = config or CONFIGS[0]
    _merge_kernel[(triton.cdiv(count * heads, chosen.tiles["BLOCK_H"]),)](
        out_a,
        lse_a,
        out_b,
        lse_b,
        count * heads,
        HEAD_DIM=head_dim,
        BLOCK_D=triton.next_power_of_2(head_dim),
        **chosen.arguments(),
    )
    return out_a, lse_a


@triton.jit
def _merge_kernel(
    out_a,
    lse_a,
    out_b,
    lse_b,
    count,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_H: tl.constexpr,
):
    """A few heads of a few tokens, which lie one after another."""
    head = tl.program_id(0) * BLOCK_H + tl.arange(0, BLOCK_H)
    columns = tl.arange(0, BLOCK_D)
    valid = head < count
    a = tl.load(lse_a + head, mask=valid, other=0.0) * _LOG2_E
    b = tl.load(lse_b + head, mask=valid, other=0.0) * _LOG2_E
    largest = tl.maximum(a, b)
    # Where both are −∞, their difference from the larger would be no number.
    largest = tl.where(largest == float("-inf"), 0.0, largest)
    weight_a, weight_b = tl.exp2(a - largest), tl.exp2(b - largest)
    total = weight_a + weight_b
    divisor = tl.where(total > 0.0, total, 1.0)
    offsets = head.to(tl.int64)[:, None] * HEAD_DIM + columns[None, :]
    inside = valid[:, None] & (columns < HEAD_DIM)[None, :]
    wide_a = tl.load(out_a + offsets, mask=inside, other=0.0).to(tl.float32)
    wide_b = tl.load(out_b + offsets, mask=inside, other=0.0).to(tl.float32)
    merged = wide_a * (weight_a / divisor)[:, None] + wide_b * (weight_b / divisor)[:, None]
    tl.store(out_a + offsets, merged.to(out_a.dtype.element_ty), mask=inside)
    log_sum = tl.where(total > 0.0, largest + tl.log2(divisor), float("-inf"))
    tl.store(lse_a + head, log_sum * _LN_2, mask=valid)


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: heads of an 8 B model."""
    for config in CONFIGS:
        yield Case(
            "attention_merge",
            _merge_kernel,
            (torch.bfloat16, torch.float32, torch.bfloat16, torch.float32, 1024),
            {"HEAD_DIM": 128, "BLOCK_D": 128},
            config,
        )
