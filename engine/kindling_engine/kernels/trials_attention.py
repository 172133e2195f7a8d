"""What configurations of decode and prefill attention are compared on: batches and contexts as they are served."""

from functools import partial

import torch
from torch import Tensor

from kindling_engine.kernels.clock import copies_for
from kindling_engine.kernels.paged_decode import DecodeWorkspace, configs_for, decode_key, paged_decode
from kindling_engine.kernels.paged_inputs import PagedInputs, Shape, paged_inputs
from kindling_engine.kernels.paged_prefill import configs_for as prefill_configs
from kindling_engine.kernels.paged_prefill import paged_prefill, prefill_key
from kindling_engine.kernels.paged_reference import paged_reference
from kindling_engine.kernels.tune import Bout, Trial
from kindling_engine.kernels.tuning import Config
from kindling_engine.layers.attention_spec import AttentionSpec

CONTEXTS = (1024, 4096)
PROMPTS = ((2048, 2048), (512, 4096))
"""Queries, and keys that they end with."""

_CHECKED = (160, 400)
_LEAST_KEYS = 32
_TOLERANCE = {torch.float32: 1e-5}
_NARROW_TOLERANCE = 2e-2


def decode_trial(
    shape: Shape,
    spec: AttentionSpec,
    *,
    requests: int,
    max_splits: int,
    max_length: int,
    dtype: torch.dtype,
    page_dtype: torch.dtype,
    device: torch.device,
    budget_bytes: int,
    contexts: tuple[int, ...] = CONTEXTS,
) -> Trial:
    """One query for each of ``requests``, all of which have ``contexts`` keys, or as many as ``budget_bytes`` hold."""
    key_bytes = 2 * shape.kv_heads * shape.head_dim * page_dtype.itemsize
    each_bytes = budget_bytes // len(contexts)
    longest = min(max_length, max(_LEAST_KEYS, each_bytes // (requests * key_bytes)))
    lengths = sorted({min(length, longest) for length in contexts})

    def make() -> Bout:
        workspace = _workspace(shape, requests, max_splits, device)

        def inputs(length: int) -> list[PagedInputs]:
            moved = requests * length * key_bytes
            sets = max(1, min(copies_for(moved), each_bytes // moved))
            one = paged_inputs(
                shape,
                requests=sets * requests,
                q_len=1,
                length=length,
                dtype=dtype,
                page_dtype=page_dtype,
                device=device,
                seed=length,
            )
            return one.parts(sets)

        run = partial(_decode, spec=spec, max_splits=max_splits, workspace=workspace)
        loads = [inputs(length) for length in lengths]
        return Bout(
            partial(run, loads[0][0]),
            _expected(loads[0][0], spec),
            tuple(tuple(partial(run, one) for one in load) for load in loads),
        )

    query, pages = _meta(shape, requests, dtype, page_dtype)
    key = decode_key(query, pages, spec, splits=max_splits > 1)
    return Trial(key, configs_for(shape.head_dim, page_dtype), make, _TOLERANCE.get(dtype, _NARROW_TOLERANCE))


def prefill_trial(
    shape: Shape,
    spec: AttentionSpec,
    *,
    max_length: int,
    dtype: torch.dtype,
    page_dtype: torch.dtype,
    device: torch.device,
    prompts: tuple[tuple[int, int], ...] = PROMPTS,
    checked: tuple[int, int] = _CHECKED,
) -> Trial:
    """A whole prompt, and a chunk behind a prefix, none longer than ``max_length``; numbers are checked on small ones.

    Scores written out for thousands of keys would not fit beside a model.
    """
    loads = sorted({(min(queries, max_length), min(keys, max_length)) for queries, keys in prompts})
    first = min(queries for queries, _ in loads)

    def make() -> Bout:
        inputs = partial(_prompts, shape, dtype=dtype, page_dtype=page_dtype, device=device)
        small = inputs(2, min(first, checked[0]), min(max_length, checked[1]))
        run = partial(_prefill, spec=spec)
        return Bout(
            partial(run, small),
            _expected(small, spec),
            tuple((partial(run, inputs(1, queries, keys)),) for queries, keys in loads),
        )

    query, pages = _meta(shape, 1, dtype, page_dtype)
    group = shape.heads // shape.kv_heads
    return Trial(
        prefill_key(query, pages, spec, first),
        prefill_configs(shape.head_dim, dtype, page_dtype, first * group),
        make,
        _TOLERANCE.get(dtype, _NARROW_TOLERANCE),
    )


def _meta(shape: Shape, requests: int, dtype: torch.dtype, page_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Queries and pages of the shape that take no memory: a key is made of them before there are inputs."""
    return (
        torch.empty(requests, shape.heads, shape.head_dim, dtype=dtype, device="meta"),
        torch.empty(shape.kv_heads, 1, 16, shape.head_dim, dtype=page_dtype, device="meta"),
    )


def _workspace(shape: Shape, requests: int, max_splits: int, device: torch.device) -> DecodeWorkspace | None:
    if max_splits == 1:
        return None
    return DecodeWorkspace.make(
        requests=requests,
        q_len=1,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_splits=max_splits,
        device=device,
    )


def _prompts(
    shape: Shape,
    requests: int,
    queries: int,
    keys: int,
    *,
    dtype: torch.dtype,
    page_dtype: torch.dtype,
    device: torch.device,
) -> PagedInputs:
    return paged_inputs(
        shape,
        requests=requests,
        q_len=queries,
        length=keys,
        dtype=dtype,
        page_dtype=page_dtype,
        device=device,
        seed=keys,
    )


def _decode(
    one: PagedInputs,
    config: Config,
    *,
    spec: AttentionSpec,
    max_splits: int,
    workspace: DecodeWorkspace | None,
) -> Tensor:
    return paged_decode(
        one.query,
        one.key_pages,
        one.value_pages,
        one.tables,
        one.rows,
        one.lengths,
        spec=spec,
        max_splits=max_splits,
        workspace=workspace,
        config=config,
        **one.unit_scales,
    )


def _prefill(one: PagedInputs, config: Config, *, spec: AttentionSpec) -> Tensor:
    return paged_prefill(
        one.query,
        one.key_pages,
        one.value_pages,
        one.tables,
        one.rows,
        one.starts,
        one.lengths,
        spec=spec,
        max_query=one.q_len,
        config=config,
        **one.unit_scales,
    )


def _expected(one: PagedInputs, spec: AttentionSpec) -> Tensor:
    return paged_reference(
        one.query,
        one.key_pages,
        one.value_pages,
        one.tables,
        one.rows,
        one.starts,
        one.lengths,
        spec=spec,
        **one.unit_scales,
    )[0]
