"""Loads a model and sizes everything around it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from kindling_engine.constraints.cache import GrammarCache
from kindling_engine.constraints.grammar import GrammarCompiler
from kindling_engine.core.adapter_memory import adapter_memory
from kindling_engine.core.kv_cache import kv_dtype_allow, kv_page_dtype, kv_scales_find
from kindling_engine.core.loops import runner_make
from kindling_engine.core.options import CoreOptions
from kindling_engine.core.threads import threads_settle
from kindling_engine.embeddings.adapters import adapter_refuse
from kindling_engine.embeddings.runner import EncoderRunner
from kindling_engine.embeddings.text_room import TextRoom
from kindling_engine.kvcache.manager import PAGE_SIZE, KvManager
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.lora.cache import AdapterCache
from kindling_engine.models.base import ModelConfig
from kindling_engine.models.config import architecture_read
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.encoder import Encoder, encoder_load
from kindling_engine.models.errors import ModelError
from kindling_engine.models.invariance import invariance_allow
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import weight_form
from kindling_engine.models.weights import LoadProgress
from kindling_engine.protocol.control_groups import ControlGroups
from kindling_engine.protocol.embedding_folder import ENCODERS
from kindling_engine.protocol.kv_dtypes import FP8
from kindling_engine.protocol.speculation_modes import OFF
from kindling_engine.runner.runner import ModelRunner
from kindling_engine.runner.tuning import Tuning
from kindling_engine.scheduler.scheduler import Scheduler
from kindling_engine.speculation.speculator import Speculator

_MIB = 1 << 20
_CPU_KV_BYTES = 2048 * _MIB
# What a block takes in tables and lists, however thin its pages are.
_LEAST_BLOCK_BYTES = 1024
_FREE_SHARE = {"cpu": 0.25, "cuda": 0.85}
# Where caches are transformers': they grow by copies, and scores of all tokens with all stand beside them.
_GROWING_SHARE = 0.5
# States of prefixes: at most so much of the memory for K and V, and so many slots a seat, or in all with few seats.
_STATES_SHARE = 0.25
_SLOTS_A_SEAT = 4
_MOST_SLOTS = 64


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the step loop works with."""

    config: ModelConfig
    scheduler: Scheduler
    runner: ModelRunner | EncoderRunner
    adapters: AdapterCache
    grammars: GrammarCache
    kv: KvManager
    device: torch.device
    dtype: torch.dtype
    speculator: Speculator | None = None


def parts_build(
    options: CoreOptions, wake: Callable[[], None], *, progress: LoadProgress | None = None
) -> Parts:
    """Load the model and build the parts; ``wake`` is called from the loader thread. Raises ModelError, and what a
    step raises where the number of threads is left open.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    parts = _parts_load(options, wake, progress)
    if not options.threads:
        threads_settle(parts.scheduler, parts.runner, parts.config, parts.device)
    return parts


def _parts_load(options: CoreOptions, wake: Callable[[], None], progress: LoadProgress | None) -> Parts:
    device = _device(options.device)
    # bf16 arithmetic is emulated on most CPUs, so weights are widened there.
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    form = weight_form(options.weights, device)
    architecture = architecture_read(options.model)
    kv_dtype_allow(options.kv_dtype, architecture, device)
    if architecture in ENCODERS:
        if options.batch_invariant:
            invariance_allow(architecture, device, decoder=False)
        encoder = encoder_load(options.model, architecture, device=device, dtype=dtype, form=form)
        return _encoder_parts(encoder, options, wake)
    model = model_load(
        options.model,
        device=device,
        dtype=dtype,
        form=form,
        batch_invariant=options.batch_invariant,
        progress=progress,
    )
    config = model.config
    page_dtype, scales = kv_page_dtype(options.kv_dtype, dtype), None
    if options.kv_dtype == FP8 and isinstance(model, Decoder):
        scales = kv_scales_find(model)
    num_blocks, state_slots = _cache_sizes(config, options, page_dtype, device)
    kv = KvManager(
        num_blocks=num_blocks,
        revision=f"{options.model_ref}\0{config.revision}",
        kv_dtype=str(page_dtype),
        rotary_limit=config.rotary_limit,
        shares=not (config.state_bytes or config.token_bytes),
        state_slots=state_slots,
    )
    adapters = adapter_memory(
        model, options, kv=kv, block_bytes=_block_bytes(config, page_dtype), dtype=dtype, wake=wake
    )
    storage = KvStorage(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_blocks=num_blocks,
        dtype=page_dtype,
        device=device,
        memory=adapters.kv_memory,
        scales=scales,
    )
    # A state cannot go back to before a wrong guess, nor can every cache.
    guesses = device.type == "cpu" and config.task == "generate" and options.speculation != OFF
    guesses = guesses and not (config.state_bytes or config.token_bytes)
    speculator = Speculator() if guesses else None
    scheduler = Scheduler(
        kv=kv,
        context_length=config.context_length,
        max_batch=options.max_batch,
        step_tokens=options.step_tokens,
        drafter=speculator,
    )
    runner = runner_make(
        model,
        storage,
        max_batch=options.max_batch,
        max_length=scheduler.max_length,
        adapter_lookup=adapters.cache.weights,
        batch_invariant=options.batch_invariant,
        make_lora=adapters.make_lora,
        slabs=adapters.slabs,
        tuning=Tuning(options.tune, options.tuned, options.tune_limit_s),
        state_slots=state_slots,
    )
    grammars = _grammars(config, options, wake)
    return Parts(config, scheduler, runner, adapters.cache, grammars, kv, device, dtype, speculator)


def _encoder_parts(model: Encoder, options: CoreOptions, wake: Callable[[], None]) -> Parts:
    """An encoder keeps no KV and takes no adapters; seats are bounded by the step's tokens alone."""
    kv = TextRoom(context_length=model.config.context_length)
    scheduler = Scheduler(
        kv=kv,
        context_length=model.config.context_length,
        max_batch=options.step_tokens,
        step_tokens=options.step_tokens,
        whole=True,
    )
    adapters = AdapterCache(budget_bytes=options.lora_mib * _MIB, load=adapter_refuse, wake=wake)
    grammars = _grammars(model.config, options, wake)
    runner = EncoderRunner(model)
    return Parts(model.config, scheduler, runner, adapters, grammars, kv, model.device, model.dtype)


def _grammars(config: ModelConfig, options: CoreOptions, wake: Callable[[], None]) -> GrammarCache:
    compiler = GrammarCompiler(options.model, vocab_size=config.vocab_size, eos_ids=config.eos_ids)
    return GrammarCache(compiler, wake=wake)


def _device(wish: str) -> torch.device:
    if wish == "cuda" and not torch.cuda.is_available():
        raise ModelError("device_missing", "No CUDA device is available; start with --device cpu or auto.")
    return torch.device("cuda" if wish == "cuda" or (wish == "auto" and torch.cuda.is_available()) else "cpu")


def _cache_sizes(
    config: ModelConfig, options: CoreOptions, dtype: torch.dtype, device: torch.device
) -> tuple[int, int]:
    """Blocks for ``kv_tokens``, or for a full batch of full contexts as far as memory allows, one more for padding; and
    slots for states of prefixes, in at most a share of the same memory.
    """
    block_bytes = _block_bytes(config, dtype) + PAGE_SIZE * config.token_bytes
    # A state that a step has made stands beside the one before it.
    free_bytes = max(0, _free_bytes(device) - 2 * options.max_batch * config.state_bytes)
    share = _FREE_SHARE[device.type]
    if config.token_bytes:
        share = min(share, _GROWING_SHARE)
    room, adapters = int(free_bytes * share), 0
    if device.type == "cpu":
        room = min(room, _CPU_KV_BYTES)
    else:
        adapters = options.lora_mib * _MIB
        room -= adapters
    slots = 0
    if config.state_rows and config.state_bytes:
        slots = max(0, int(room * _STATES_SHARE)) // config.state_bytes
        slots = min(slots, max(_MOST_SLOTS, _SLOTS_A_SEAT * options.max_batch))
    if options.kv_tokens > 0:
        blocks = -(-options.kv_tokens // PAGE_SIZE) + 1
        left = free_bytes - blocks * block_bytes
        if left < 0:
            raise ModelError(
                "out_of_memory",
                f"A cache of {options.kv_tokens:,} tokens takes {blocks * block_bytes / 1e9:,.1f} GB and "
                f"{free_bytes / 1e9:,.1f} GB are free; lower --kv-tokens, or leave it out.",
            )
        # The rest stays for what a step computes with.
        spare = int(max(0, left - adapters) * _STATES_SHARE)
        return blocks, min(slots, spare // max(1, config.state_bytes))
    room -= slots * config.state_bytes
    wanted = options.max_batch * -(-config.context_length // PAGE_SIZE)
    return max(2, min(wanted, room // max(block_bytes, _LEAST_BLOCK_BYTES)) + 1), slots


def _block_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    return KvStorage.block_bytes(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=dtype,
    )


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        # What weights took while they were converted is torch's until it is given back.
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    granted = ControlGroups().memory_bytes()
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
            return free if granted is None else min(free, granted)
    return _CPU_KV_BYTES if granted is None else granted
