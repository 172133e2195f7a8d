"""The engine's speed on a GPU: a small model beside its peers, and an 8 B shape beside the memory's limit."""

import gc
import os
import tempfile
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import torch

from kindling_engine.bench.contest import Entrant, contest, say
from kindling_engine.bench.cuda_decode import decode_measure
from kindling_engine.bench.cuda_gate import gates_measure
from kindling_engine.bench.cuda_lora import lora_decode_measure
from kindling_engine.bench.figures import (
    CUDA_PARTS,
    BenchOptions,
    DeviceMissingError,
    Figures,
    Value,
    circumstances,
)
from kindling_engine.bench.memory import read_gbps
from kindling_engine.bench.peers import peers_of
from kindling_engine.bench.peers_start import peers_ready, peers_start
from kindling_engine.bench.shapes import LLAMA_8B, QWEN3_06B, LlamaShape, checkpoint_write
from kindling_engine.bench.subjects import Worker
from kindling_engine.bench.workloads import Load, MixedWorkload

# Below this the device is shared or throttled, and its figures say nothing about the engine.
LEAST_READ_GBPS = 4000.0
# The load that nano-vllm publishes its figures for: 256 requests, 100 to 1,024 tokens in and out.
W1 = MixedWorkload.uniform("gpu_w1", 256, 100, 1024, seed=0)
# Peers run it once each way: they are many times slower, and the whole is to end within minutes.
_REPEATS = {False: 2, True: 1}


def engine_cuda_measure(options: BenchOptions) -> Figures:
    """Figures of a CUDA device, void where its memory reads slower than an H200's should.

    Raises DeviceMissingError.
    """
    if not torch.cuda.is_available():
        raise DeviceMissingError("There is no CUDA device here; --device cpu measures the engine on a CPU.")
    device = torch.device("cuda")
    gbps, repeats = read_gbps(device), 1 if options.quick else 3
    say(f"{torch.cuda.get_device_name(device)}: memory reads at {gbps:,.0f} GB/s")
    values: dict[str, Value] = {
        **circumstances(),
        "device": "cuda",
        "gpu": torch.cuda.get_device_name(device),
        "read_gbps": gbps,
    }
    measures: dict[str, Callable[[], Mapping[str, Value]]] = {
        "gates": lambda: gates_measure(device),
        "mixed": lambda: mixed_measure(QWEN3_06B, W1, repeats=_REPEATS[options.quick], install=options.peers),
        "decode": lambda: decode_measure(LLAMA_8B, device=device, gbps=gbps, repeats=repeats),
        "adapters": lambda: lora_decode_measure(LLAMA_8B, device=device, repeats=repeats),
    }
    for name in [options.only] if options.only else CUDA_PARTS:
        # Graphs and what they hold are in cycles, and the next part needs their memory.
        gc.collect()
        torch.cuda.empty_cache()
        # Nothing is timed behind a wrong number.
        values |= measures[name]() if name == "gates" else measured_or_why(name, measures[name])
    if gbps < LEAST_READ_GBPS:
        values["void"] = f"the memory reads at {gbps:,.0f} GB/s, below {LEAST_READ_GBPS:,.0f}"
    return Figures(values)


def measured_or_why(name: str, measure: Callable[[], Mapping[str, Value]]) -> Mapping[str, Value]:
    """What ``measure`` gives; where it fails the reason, as that must not cost the other parts' figures."""
    try:
        return measure()
    except Exception as error:  # a device, a worker, a compiler
        traceback.print_exc()
        return {f"{name}: why not": f"{type(error).__name__}: {error}"[:300]}


def mixed_measure(
    shape: LlamaShape,
    load: Load,
    *,
    repeats: int,
    install: bool,
    device: str = "cuda",
    kv_tokens: int = 300_000,
) -> dict[str, Value]:
    """A load of many requests of different lengths beside the peers, each in a process of its own."""
    threads = min(8, os.cpu_count() or 1)
    seeds = count(1)
    known = peers_of(device)
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name, ExitStack() as stack:
        checkpoint_write(shape, Path(name))
        settings: dict[str, Any] = {"folder": name, "device": device, "kv_tokens": kv_tokens}
        ours = stack.enter_context(
            Worker("ours", {**settings, "max_batch": 256, "step_tokens": 8192}, threads=threads)
        )
        started = peers_start(known, settings, stack, threads=threads, install=install)
        ours.ready()
        peers = peers_ready(started, known, vocab_size=shape.vocab_size)
        us = Entrant(ours, "", threads)
        entrants = [Entrant(peer, mode, threads) for peer in peers.workers for mode in known[peer.kind].modes]
        contest(load.cut(4), us, [], vocab_size=shape.vocab_size, repeats=1, seeds=seeds)
        result = contest(load, us, entrants, vocab_size=shape.vocab_size, repeats=repeats, seeds=seeds)
    figures: dict[str, Value] = {name: result.tok_s(name) for name in result.runs if name != us.name}
    figures |= {
        name: f"{speed / result.trial_best_tok_s:.2f} of the best in a trial of a quarter the length"
        for name, speed in result.trial_tok_s.items()
    }
    figures |= {f"{name}: why not": reason for name, reason in result.failed.items()}
    return {
        "gpu_w1_tok_s": result.tok_s(us.name),
        "gpu_w1_vs_best_peer": result.versus(us.name),
        "peers": {**peers.reasons(), "gpu_w1": figures},
    }
