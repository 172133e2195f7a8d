"""Where a model's adapters lie, by its device and the way its steps run, and what they may borrow of the KV cache."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kindling_engine.core.loops import works_apart
from kindling_engine.core.options import CoreOptions
from kindling_engine.embeddings.adapters import adapter_refuse
from kindling_engine.kvcache.arena import Arena, arena_make
from kindling_engine.kvcache.manager import KvManager
from kindling_engine.lora.bags import LANES
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.cache import AdapterCache
from kindling_engine.lora.fetching import BlobFetcher
from kindling_engine.lora.loader import adapter_load
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.lora.seated import SeatedLora
from kindling_engine.lora.slab_layout import ALIGNMENT
from kindling_engine.lora.slabs import DeviceSlabs, Lending
from kindling_engine.lora.stores import (
    AdapterStore,
    DeviceStore,
    HostStore,
    MakeLending,
    device_store,
    host_store,
)
from kindling_engine.models.base import Model
from kindling_engine.models.decoder import Decoder
from kindling_engine.runner.inputs import MakeLora

logger = logging.getLogger(__name__)

_MIB = 1 << 20
_HOST_TIMES = 4
_SCRATCH_TIMES = 8
"""The tiers beneath a device's pool, and on disk, in multiples of the memory for adapters."""
_MOST_HOST_BYTES = (1 << 31) * LANES * torch.float32.itemsize
"""Of a CPU's pool with all that it may borrow: sums over its rows of LANES numbers tell rows apart by 31 bits."""


@dataclass(frozen=True, slots=True)
class AdapterMemory:
    """The cache, and what a runner needs: a maker of batches on a host, or a device's slabs.

    ``kv_memory``: what K and V have to lie in, if adapters may borrow of it.
    """

    cache: AdapterCache
    make_lora: MakeLora
    slabs: DeviceSlabs | None
    kv_memory: Tensor | None = None


def adapter_memory(
    model: Model,
    options: CoreOptions,
    *,
    kv: KvManager,
    block_bytes: int,
    dtype: torch.dtype,
    wake: Callable[[], None],
) -> AdapterMemory:
    """For a model that generates or embeds; the latter takes no adapters. Blocks of ``kv`` have ``block_bytes``."""
    budget_bytes = options.lora_mib * _MIB
    if model.config.task == "embed":
        return AdapterMemory(
            AdapterCache(budget_bytes=budget_bytes, load=adapter_refuse, wake=wake), LoraBatch, None
        )
    lender = _Lender(kv, options, block_bytes, model.device)
    store = _store(model, options, dtype, budget_bytes, lender)
    load = partial(
        adapter_load,
        layout=model.lora,
        architecture=model.config.architecture,
        vocab_size=model.config.vocab_size,
        base_ref=options.model_ref,
        max_bytes=budget_bytes,
        device=model.device,
        dtype=dtype,
        in_slabs=isinstance(store, DeviceStore),
    )
    cache = AdapterCache(
        budget_bytes=budget_bytes,
        load=load,
        wake=wake,
        store=store,
        host_bytes=_HOST_TIMES * budget_bytes if isinstance(store, DeviceStore) else 0,
        scratch=None
        if store is None
        else SlabScratch(options.blobs, budget_bytes=_SCRATCH_TIMES * budget_bytes),
        fetcher=None if options.blob_source is None else BlobFetcher(options.blob_source),
    )
    if isinstance(store, HostStore):
        make_lora = SeatedLora(store.slabs.tables.pool, store.slabs.shapes)
        return AdapterMemory(cache, make_lora, None, lender.kv_memory)
    slabs = store.slabs if isinstance(store, DeviceStore) else None
    return AdapterMemory(cache, LoraBatch, slabs, lender.kv_memory)


class _Lender:
    """Makes one stretch of memory for adapters and K and V, when a pool is made."""

    def __init__(self, kv: KvManager, options: CoreOptions, block_bytes: int, device: torch.device) -> None:
        self._kv = kv
        self._options = options
        self._block_bytes = block_bytes
        self._device = device
        self._arena: Arena | None = None

    @property
    def kv_memory(self) -> Tensor | None:
        return None if self._arena is None else self._arena.blocks

    def __call__(self) -> Lending | None:
        """None where nothing is to be lent, or no slab can lie in blocks, which is said."""
        pool, own_bytes = self._kv.pool, self._options.lora_mib * _MIB
        most_blocks = pool.capacity * self._options.lora_borrow // 100
        if not most_blocks:
            return None
        size = own_bytes + (pool.capacity + 1) * self._block_bytes
        reason = ""
        if self._block_bytes % ALIGNMENT:
            reason = f"its blocks of {self._block_bytes} bytes are no multiples of {ALIGNMENT}"
        elif self._device.type == "cpu" and size >= _MOST_HOST_BYTES:
            reason = f"{size >> 30} GiB are more than a CPU's sums reach"
        if reason:
            logger.warning("adapters borrow nothing of the KV cache: %s", reason)
            return None
        self._arena = arena_make(
            own_bytes=own_bytes,
            block_bytes=self._block_bytes,
            num_blocks=pool.capacity + 1,
            device=self._device,
        )
        loans = self._kv.loans
        loans.limit = most_blocks
        return Lending(
            self._arena,
            most_blocks,
            take=lambda count, cached: self._kv.lend(count, cached=cached),
            give_back=self._kv.take_back,
            room=loans.room,
        )


def _store(
    model: Model, options: CoreOptions, dtype: torch.dtype, budget_bytes: int, lend: MakeLending
) -> AdapterStore | None:
    """None where each matrix lies for itself: for bits that are the same in any company, and where kernels lack."""
    if options.batch_invariant:
        return None
    if works_apart(model, batch_invariant=False):
        if not isinstance(model, Decoder) or model.paged is None:
            return None
        return device_store(
            model.lora, budget_bytes=budget_bytes, dtype=dtype, device=model.device, lend=lend
        )
    if model.device.type != "cpu":
        return None
    return host_store(model.lora, budget_bytes=budget_bytes, dtype=dtype, lend=lend)
