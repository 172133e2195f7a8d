"""The engine's speed on a GPU: the small shape beside its peers, and an 8 B shape beside the memory's limit."""

import os
import tempfile
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import torch

from kindling_engine.bench.contest import Entrant, contest, say
from kindling_engine.bench.figures import BenchOptions, Figures, Value, circumstances
from kindling_engine.bench.memory import read_gbps
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.peers import peers_of
from kindling_engine.bench.random_model import random_model
from kindling_engine.bench.shapes import LLAMA_8B, SMALL, LlamaShape, checkpoint_write
from kindling_engine.bench.subjects import Worker, WorkerError
from kindling_engine.bench.workloads import W1, Workload

# Below this the device is shared or throttled, and its figures say nothing about the engine.
_LEAST_READ_GBPS = 4000.0
_BATCHES = (1, 32, 256)
_CONTEXT, _OUTPUT = 1024, 64


def engine_cuda_measure(options: BenchOptions) -> Figures:
    """Figures of a CUDA device; without any where its memory reads slower than an H200's should."""
    device = torch.device("cuda")
    gbps = read_gbps(device)
    say(f"{torch.cuda.get_device_name(device)}: memory reads at {gbps:,.0f} GB/s")
    values: dict[str, Value] = {
        **circumstances(),
        "device": "cuda",
        "gpu": torch.cuda.get_device_name(device),
        "read_gbps": gbps,
        "repeats": options.repeats,
    }
    if gbps < _LEAST_READ_GBPS:
        return Figures(
            {**values, "void": f"the memory reads at {gbps:,.0f} GB/s, below {_LEAST_READ_GBPS:,.0f}"}
        )
    return Figures(
        {
            **values,
            **_small(options),
            **large_measure(LLAMA_8B, device=device, gbps=gbps, repeats=options.repeats),
        }
    )


def _small(options: BenchOptions) -> dict[str, Value]:
    """W1 on the shape of the CPU's bench, in bf16, beside transformers."""
    threads = min(8, os.cpu_count() or 1)
    seeds = count(1)
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name, ExitStack() as stack:
        checkpoint_write(SMALL, Path(name))
        settings: dict[str, Any] = {"folder": name, "device": "cuda", "kv_tokens": 64 * 640}
        ours = stack.enter_context(
            Worker("ours", {**settings, "max_batch": 64, "step_tokens": 2048}, threads=threads)
        ).ready()
        known = peers_of("cuda")
        peers, missing = [], {kind: "not installed" for kind, peer in known.items() if not peer.installed}
        for kind in (kind for kind, peer in known.items() if peer.installed):
            try:
                peers.append(stack.enter_context(Worker(kind, settings, threads=threads)).ready())
            except WorkerError as error:
                missing[kind] = str(error)
        us = Entrant(ours, "", threads)
        entrants = [Entrant(peer, mode, threads) for peer in peers for mode in known[peer.kind].modes]
        warm_up = contest(W1.cut(4), us, [], vocab_size=SMALL.vocab_size, repeats=2, seeds=seeds)
        say(f"warm after {len(warm_up.runs[us.name])} runs")
        result = contest(W1, us, entrants, vocab_size=SMALL.vocab_size, repeats=options.repeats, seeds=seeds)
    figures: dict[str, Value] = {name: result.tok_s(name) for name in result.runs if name != us.name}
    figures |= dict.fromkeys(result.failed)
    return {
        "gpu_w1_tok_s": result.tok_s(us.name),
        "gpu_w1_vs_best_peer": result.versus(us.name),
        "peers": {**missing, "w1": figures},
    }


def large_measure(
    shape: LlamaShape,
    *,
    device: torch.device,
    gbps: float,
    repeats: int,
    batches: tuple[int, ...] = _BATCHES,
    context: int = _CONTEXT,
    output: int = _OUTPUT,
) -> dict[str, Value]:
    """Decode at a context of ``context`` tokens for several batches, and the time to a first token.

    The ceiling of a batch is the memory's read rate over what a step must read: the weights once, and every
    request's K and V.
    """
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    engine = OurEngine(
        random_model(shape, dtype=dtype, device=device),
        kv_tokens=max(batches) * (context + output) + 1024,
        max_batch=max(batches),
        step_tokens=2048,
    )
    seeds = count(1)
    values: dict[str, Value] = {}
    for batch in batches:
        load = Workload(f"b{batch}", batch, 0, context, output)
        rates = []
        for index in range(repeats + 1):
            run = engine.run(load.prompts(vocab_size=shape.vocab_size, seed=next(seeds)), output)
            # The first run of a batch size pays for kernels chosen on first use.
            rates += [run.decode_tokens / run.decode_s] if index else []
            say(f"8b batch {batch}: {run.decode_tokens / run.decode_s:,.0f} tok/s in decode")
        kv_bytes = batch * (context + output / 2) * shape.kv_elements_per_token * dtype.itemsize
        ceiling = batch * gbps * 1e9 / (shape.read_per_step * dtype.itemsize + kv_bytes)
        values[f"gpu_8b_b{batch}_tok_s"] = median(rates)
        values[f"gpu_8b_b{batch}_ceiling_tok_s"] = ceiling
        values[f"gpu_8b_b{batch}_fraction"] = median(rates) / ceiling
    values["gpu_8b_fp8_b32_vs_bf16"] = None
    first = Workload("ttft", 1, 0, context, 1)
    times_s = [
        engine.run(first.prompts(vocab_size=shape.vocab_size, seed=next(seeds)), 1).first_s[0]
        for _ in range(repeats + 1)
    ]
    values["gpu_ttft_1k_ms"] = 1000 * median(times_s[1:])
    return values
