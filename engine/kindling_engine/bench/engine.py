"""The engine's speed beside its peers, on a machine without an accelerator or with one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from kindling_engine.bench.contest import HOPELESS, Entrant, Result, contest, say
from kindling_engine.bench.figures import BenchOptions, Figures, Value, circumstances
from kindling_engine.bench.forms import form_measure
from kindling_engine.bench.invariant import invariant_measure
from kindling_engine.bench.ours import KV_FP8
from kindling_engine.bench.peers import peers_of
from kindling_engine.bench.peers_start import Peers, peers_ready, peers_start
from kindling_engine.bench.published import published_measure
from kindling_engine.bench.shapes import SMALL, LlamaShape, checkpoint_write
from kindling_engine.bench.subjects import Worker, WorkerError
from kindling_engine.bench.workloads import W1, W2, W3, WORKLOADS, Workload
from kindling_engine.protocol.weight_forms import HALF, INT8

_QUICK_LAYERS, _QUICK_CUT = 8, 4
_FORM_TOKENS = 4096
_KV_TOKENS = 8192
_PEER_KV_TOKENS = 64 * 640
_STEP_TOKENS = 512
_FLOAT_BYTES = 4
PEERS = peers_of("cpu")


@dataclass(frozen=True, slots=True)
class Setup:
    """What is run: a shape, its loads, and how often.

    A peer runs in its first ``peer_modes`` modes with each of ``peer_threads``; whom a trial finds ``hopeless`` times
    slower than the best runs no more. Our other forms and modes get ``arm_pairs`` pairs of runs.
    """

    shape: LlamaShape
    loads: tuple[Workload, ...]
    repeats: int
    device: str
    peer_modes: int
    peer_threads: tuple[int, ...]
    hopeless: float
    arm_pairs: int


def engine_measure(options: BenchOptions) -> Figures:
    """Run the loads; raises WorkerError when our own engine fails."""
    if options.on_cuda or options.only:
        from kindling_engine.bench.engine_cuda import engine_cuda_measure

        return engine_cuda_measure(options)
    quick, cores = options.quick, os.cpu_count() or 1
    setup = Setup(
        shape=SMALL.cut(_QUICK_LAYERS) if quick else SMALL,
        loads=tuple(load.cut(_QUICK_CUT) for load in WORKLOADS) if quick else WORKLOADS,
        repeats=options.repeats,
        device="cpu",
        # The quick bench has time for one finalist, and for nothing but what is compared.
        peer_modes=1 if quick else 9,
        peer_threads=(min(2, cores),) if quick else tuple(sorted({1, min(2, cores)})),
        hopeless=1.0 if quick else HOPELESS,
        arm_pairs=0 if quick else options.repeats,
    )
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name, ExitStack() as stack:
        return _measure(setup, Path(name), stack, install=options.peers)


def _measure(setup: Setup, folder: Path, stack: ExitStack, *, install: bool) -> Figures:
    cores = os.cpu_count() or 1
    say(f"writing a random checkpoint of {setup.shape.parameters / 1e6:.0f} M parameters")
    checkpoint_write(setup.shape, folder)
    settings: dict[str, Any] = {"folder": str(folder), "device": setup.device}
    own = {**settings, "kv_tokens": _KV_TOKENS, "max_batch": 64, "step_tokens": _STEP_TOKENS}
    ours = stack.enter_context(Worker("ours", own, threads=cores))
    started = peers_start(
        PEERS, {**settings, "kv_tokens": _PEER_KV_TOKENS}, stack, threads=cores, install=install
    )
    ours.ready()
    peers = peers_ready(
        started,
        PEERS,
        vocab_size=setup.shape.vocab_size,
        modes=setup.peer_modes,
        threads=setup.peer_threads[-1],
    )
    seeds = count(1)
    threads = int(ours.ask("threads", most=cores)["threads"])
    gbps = max(float(ours.ask("bandwidth", device="cpu", threads=n)["gbps"]) for n in {1, cores})
    say(f"{threads} threads for ours; memory reads at {gbps:.1f} GB/s")
    _warm_up(ours, peers.workers, setup, seeds)
    us = Entrant(ours, "", threads)
    entrants = [
        Entrant(worker, mode, n)
        for worker in peers.workers
        for mode in PEERS[worker.kind].modes[: setup.peer_modes]
        for n in setup.peer_threads
    ]
    results = {
        load.name: contest(
            load,
            us,
            entrants,
            vocab_size=setup.shape.vocab_size,
            repeats=setup.repeats,
            seeds=seeds,
            hopeless=setup.hopeless,
        )
        for load in setup.loads
    }
    figures = _figures(setup, us, results, gbps, peers)
    return Figures({**figures.values, **_arms(setup, us, own, seeds)})


def _arms(setup: Setup, us: Entrant, own: dict[str, Any], seeds: Iterator[int]) -> dict[str, Value]:
    """Our engine, made by its ``own`` settings, beside itself: on a checkpoint in bf16, with weights in other forms,
    with keys and values in e4m3, and in the batch-invariant mode.
    """
    if not setup.arm_pairs:
        return {}
    vocab_size, folder = setup.shape.vocab_size, Path(own["folder"])
    values = published_measure(us, setup.shape, own, setup.loads, pairs=setup.arm_pairs, seeds=seeds)
    few = tuple(load for load in setup.loads if load.name in {W1.name, W2.name})
    for form in (HALF, INT8, KV_FP8):
        values |= form_measure(
            form,
            us,
            folder,
            few,
            vocab_size=vocab_size,
            pairs=setup.arm_pairs,
            tokens=_FORM_TOKENS,
            seeds=seeds,
        )
    many = tuple(load for load in setup.loads if load.name in {W1.name, W3.name})
    return values | invariant_measure(us, many, vocab_size=vocab_size, pairs=setup.arm_pairs, seeds=seeds)


def _warm_up(ours: Worker, peers: list[Worker], setup: Setup, seeds: Iterator[int]) -> None:
    """The first steps of a process pay for lazy imports and kernels made on first use."""
    load = Workload("warm-up", 4, 0, 24, 3)
    for worker in (ours, *peers):
        for mode in PEERS[worker.kind].modes[: setup.peer_modes] if worker.kind in PEERS else ("",):
            try:
                worker.run(
                    load,
                    vocab_size=setup.shape.vocab_size,
                    seed=next(seeds),
                    threads=setup.peer_threads[-1],
                    mode=mode,
                )
            except WorkerError as error:
                say(f"{worker.kind} {mode}: {error}")


def _figures(setup: Setup, us: Entrant, results: dict[str, Result], gbps: float, ready: Peers) -> Figures:
    w1, w2 = results[W1.name].runs[us.name], results[W2.name].runs[us.name]
    # Of a lone request each step reads the weights once, and little else.
    step_s = median(run.decode_s / run.decode_tokens for run in w2)
    weights = setup.shape.parameters * _FLOAT_BYTES
    peak_bytes = int(us.worker.ask("memory")["peak_bytes"])
    kv_bytes = int(us.worker.facts["kv_bytes"])
    values: dict[str, Value] = {
        **circumstances(),
        **ready.versions(PEERS),
        "layers": setup.shape.num_hidden_layers,
        "repeats": setup.repeats,
        "threads": us.threads,
        "read_gbps": gbps,
        "base_tok_s": median(run.decode_tokens / run.decode_s for run in w1),
        "ttft_p50_ms": 1000 * median(first for run in w1 for first in run.first_s),
        "bandwidth_fraction": setup.shape.read_per_step * _FLOAT_BYTES / step_s / 1e9 / gbps,
        "rss_ratio": peak_bytes / (weights + kv_bytes),
        "peak_mb": peak_bytes / 1e6,
        "weights_mb": weights / 1e6,
        "kv_mb": kv_bytes / 1e6,
    }
    peers: dict[str, Value] = {**ready.reasons()}
    for name, result in results.items():
        values[f"cpu_{name}_tok_s"] = result.tok_s(us.name)
        values[f"cpu_{name}_vs_best_peer"] = result.versus(us.name)
        best = result.best(us.name)
        values[f"cpu_{name}_best_peer"] = best[0] if best else None
        peers[name] = _peers_figures(result, us.name)
    values["slower_where"] = _slower(results, us.name)
    values["peers"] = peers
    return Figures(values)


def _peers_figures(result: Result, ours: str) -> dict[str, Value]:
    """Tokens per second of each entrant; one that lost its trial has the share of the trial's best instead."""
    figures: dict[str, Value] = {name: result.tok_s(name) for name in result.runs if name != ours}
    for name, tok_s in result.trial_tok_s.items():
        figures[name] = (
            f"{tok_s / result.trial_best_tok_s:.2f} of the best in a trial of a quarter the length"
        )
    for name, reason in result.failed.items():
        figures[name] = None
        figures[f"{name}: why not"] = reason
    return figures


def _slower(results: dict[str, Result], ours: str) -> str:
    slower = [
        f"{name}: {ratio:.2f} × {best[0]}"
        for name, result in results.items()
        if (best := result.best(ours)) and (ratio := result.versus(ours)) is not None and ratio < 1
    ]
    return "; ".join(slower) or "nowhere under these loads"
