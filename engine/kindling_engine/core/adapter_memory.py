"""Where a model's adapters lie, by its device and the way its steps run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from kindling_engine.core.loops import works_apart
from kindling_engine.core.options import CoreOptions
from kindling_engine.embeddings.adapters import adapter_refuse
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.cache import AdapterCache
from kindling_engine.lora.host import HostLora
from kindling_engine.lora.loader import adapter_load
from kindling_engine.lora.scratch import SlabScratch
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.lora.stores import AdapterStore, DeviceStore, HostStore, device_store, host_store
from kindling_engine.models.base import Model
from kindling_engine.models.decoder import Decoder
from kindling_engine.runner.inputs import MakeLora

_MIB = 1 << 20
_HOST_TIMES = 4
_SCRATCH_TIMES = 8
"""The tiers beneath a device's pool, and on disk, in multiples of the memory for adapters."""


@dataclass(frozen=True, slots=True)
class AdapterMemory:
    """The cache, and what a runner needs: a maker of batches on a host, or a device's slabs."""

    cache: AdapterCache
    make_lora: MakeLora
    slabs: DeviceSlabs | None


def adapter_memory(
    model: Model, options: CoreOptions, *, dtype: torch.dtype, wake: Callable[[], None]
) -> AdapterMemory:
    """For a model that generates or embeds; the latter takes no adapters."""
    budget_bytes = options.lora_mib * _MIB
    if model.config.task == "embed":
        return AdapterMemory(
            AdapterCache(budget_bytes=budget_bytes, load=adapter_refuse, wake=wake), LoraBatch, None
        )
    store = _store(model, options, dtype, budget_bytes)
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
    )
    if isinstance(store, HostStore):
        return AdapterMemory(cache, HostLora(store.slabs.tables.pool, store.slabs.shapes), None)
    return AdapterMemory(cache, LoraBatch, store.slabs if isinstance(store, DeviceStore) else None)


def _store(model: Model, options: CoreOptions, dtype: torch.dtype, budget_bytes: int) -> AdapterStore | None:
    """None where each matrix lies for itself: for bits that are the same in any company, and where kernels lack."""
    if options.batch_invariant:
        return None
    if works_apart(model, batch_invariant=False):
        if not isinstance(model, Decoder) or model.paged is None:
            return None
        return device_store(model.lora, budget_bytes=budget_bytes, dtype=dtype, device=model.device)
    if model.device.type != "cpu":
        return None
    return host_store(model.lora, budget_bytes=budget_bytes, dtype=dtype)
