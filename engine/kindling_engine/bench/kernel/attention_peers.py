"""The same attention by others. Each maker raises where its library is missing or has no such kernel.

Whoever knows no pages gets keys and values laid out densely beforehand, which costs it nothing here.
"""

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kindling_engine.bench.kernel.problem import Make
from kindling_engine.kernels.paged_inputs import PagedInputs
from kindling_engine.kvcache.manager import PAGE_SIZE

_WORKSPACE_BYTES = 256 << 20
_MOST_SHAPES = 64


def attention_peers(*, compiled: bool = True) -> Mapping[str, Make]:
    """Peers of decode and of prefill alike; ``compiled``: with the one that is compiled for each shape anew, for up to
    half a minute.
    """
    return {
        "sdpa flash": lambda one: _sdpa(one, SDPBackend.FLASH_ATTENTION),
        "sdpa cudnn": lambda one: _sdpa(one, SDPBackend.CUDNN_ATTENTION),
        **({"flex": _flex} if compiled else {}),
        "flashinfer": _flashinfer,
        "fa3": _fa3,
    }


def _sdpa(one: PagedInputs, backend: SDPBackend) -> Callable[[], Tensor]:
    query, (keys, values) = one.batched_query, one.dense
    causal = one.q_len > 1
    if causal and one.q_len != one.length:
        raise ValueError("no kernel for queries that begin behind the first key")

    def launch() -> Tensor:
        with sdpa_kernel(backend):
            return _flat(
                F.scaled_dot_product_attention(query, keys, values, is_causal=causal, enable_gqa=True)
            )

    return launch


def _flex(one: PagedInputs) -> Callable[[], Tensor]:
    flex: Any = import_module("torch.nn.attention.flex_attention")
    query, (keys, values) = one.batched_query, one.dense
    behind = one.length - one.q_len
    mask = None
    if one.q_len > 1:
        mask = flex.create_block_mask(
            lambda b, h, q, k: q + behind >= k, None, None, one.q_len, one.length, device=query.device
        )
    compiled = _compiled(flex.flex_attention)
    return lambda: _flat(compiled(query, keys, values, block_mask=mask, enable_gqa=True))


def _flashinfer(one: PagedInputs) -> Callable[[], Tensor]:
    flashinfer: Any = import_module("flashinfer")
    keys, values = one.pages_first
    heads, head_dim, kv_heads = one.query.shape[1], one.query.shape[2], keys.shape[1]
    workspace = torch.empty(_WORKSPACE_BYTES, dtype=torch.uint8, device=one.query.device)
    width = one.tables.shape[1]
    page_starts = torch.arange(one.requests + 1, dtype=torch.int32, device=one.query.device) * width
    last = torch.full_like(one.lengths, (one.length - 1) % PAGE_SIZE + 1)
    pages = one.tables.flatten().contiguous()
    types = {"q_data_type": one.query.dtype, "kv_data_type": keys.dtype}
    if one.q_len == 1:
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "HND", use_tensor_cores=True)
        wrapper.plan(page_starts, pages, last, heads, kv_heads, head_dim, PAGE_SIZE, **types)
    else:
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "HND")
        wrapper.plan(
            one.starts, page_starts, pages, last, heads, kv_heads, head_dim, PAGE_SIZE, causal=True, **types
        )
    return lambda: wrapper.run(one.query, (keys, values)).flatten(1)


def _fa3(one: PagedInputs) -> Callable[[], Tensor]:
    # The wheel with forward kernels alone has a name of its own.
    found = next(filter(find_spec, ("fa3_fwd_interface", "flash_attn_interface")), "flash_attn_interface")
    module: Any = import_module(found)
    keys, values = (part.transpose(1, 2).contiguous() for part in one.dense)
    query = one.query.unflatten(0, (one.requests, one.q_len))
    scale = 1 / math.sqrt(query.shape[-1])

    def launch() -> Tensor:
        made = module.flash_attn_func(query, keys, values, softmax_scale=scale, causal=True)
        output: Tensor = made[0] if isinstance(made, tuple) else made
        return output.flatten(0, 1).flatten(1)

    return launch


def _flat(output: Tensor) -> Tensor:
    """``[requests, heads, q_len, d]`` as ``[requests · q_len, heads · d]``."""
    return output.transpose(1, 2).flatten(0, 1).flatten(1)


_COMPILED: dict[Any, Any] = {}


def _compiled(function: Any) -> Any:
    """Compiled once a process, for each shape anew; of more than a few, dynamo would run the rest uncompiled."""
    from torch._dynamo import config

    config.recompile_limit = max(config.recompile_limit, _MOST_SHAPES)
    if function not in _COMPILED:
        _COMPILED[function] = torch.compile(function, dynamic=False)
    return _COMPILED[function]
