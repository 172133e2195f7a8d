"""Attention as a GPU takes it: from one projection to the attended states, everything it reads already on the device.

Nothing here depends on a number of the host but for sizes that are fixed for a captured graph.
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.norm import RmsNorm
from kindling_engine.layers.rotary import RotaryTables

logger = logging.getLogger(__name__)

HeadNorms = tuple[RmsNorm, RmsNorm]
"""Of queries and keys."""

# What the kernels are compiled and tested for.
_SMALLEST_HEAD = 16  # what matrix units sum over at least
_LARGEST_HEAD = 256
_LARGEST_GROUP = 16
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
# More pieces than this of one request would be smaller than what one costs.
_PIECE_TOKENS = 256
_MOST_PIECES = 64


@dataclass(frozen=True, slots=True)
class PagedDecode:
    """The first rows of a step, one token each: ``rows`` of the block tables and ``lengths``, this token included.

    Both int32 ``[d]``. A length of 0 is padding.
    """

    rows: Tensor
    lengths: Tensor


@dataclass(frozen=True, slots=True)
class PagedPrefill:
    """The rest: chunks of ``b`` requests one after another.

    ``rows`` and ``lengths`` int32 ``[b]`` as in ``PagedDecode``; chunk i has the queries from ``starts[i]`` up to
    ``starts[i + 1]``, int32 ``[b + 1]``, counted behind the decodes; none has more than ``max_query``.
    """

    rows: Tensor
    starts: Tensor
    lengths: Tensor
    max_query: int


@dataclass(frozen=True, slots=True)
class PagedInputs:
    """A step's rows on the device.

    ``slots`` int64 ``[n]``: where each token's K and V go, −1 nowhere. ``tables`` int32 ``[rows, blocks]``. A request's
    keys are cut into at most ``max_splits`` pieces, whose results meet in ``workspace``.
    """

    slots: Tensor
    tables: Tensor
    decode: PagedDecode | None
    prefill: PagedPrefill | None
    max_splits: int
    workspace: object


class PagedAttention(Protocol):
    """One layer's attention between its two projections."""

    def __call__(
        self, qkv: Tensor, tables: RotaryTables | None, cache: LayerCache, inputs: PagedInputs
    ) -> Tensor:
        """``qkv [n, (heads + 2 · kv_heads) · d]`` to ``[n, heads · d]``; K and V are stored on the way."""

    def workspace_make(self, *, requests: int, kv_heads: int, head_dim: int, max_splits: int) -> object:
        """For steps of at most so many decodes; all layers may share it."""


def paged_attention_for(
    device: torch.device, *, heads: int, spec: AttentionSpec, norms: HeadNorms | None
) -> PagedAttention | None:
    """The device's own; None without a GPU or without triton, where ``layers.attention`` does it."""
    if device.type != "cuda":
        return None
    try:
        from kindling_engine.layers.attention_cuda import CudaAttention
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        return None
    return CudaAttention(device, heads=heads, spec=spec, norms=norms)


@cache
def kernels_take(head_dim: int, group: int, dtype: torch.dtype) -> bool:
    """Whether the kernels have this shape; where not, says so once, and ``layers.attention`` does it in torch.

    ``group`` query heads share a KV head.
    """
    reason = ""
    if not _SMALLEST_HEAD <= head_dim <= _LARGEST_HEAD or head_dim % 8:
        reason = f"heads of {head_dim}"
    elif group > _LARGEST_GROUP:
        reason = f"{group} query heads to a KV head"
    elif dtype not in _DTYPES:
        reason = f"{dtype}"
    if reason:
        logger.warning(
            "no attention kernel for %s: attention runs in torch, and decode without graphs", reason
        )
    return not reason


def splits_for(max_length: int) -> int:
    """Into how many pieces a request's keys may be cut, when it can have ``max_length`` of them."""
    return max(1, min(_MOST_PIECES, -(-max_length // _PIECE_TOKENS)))
