"""Adapters beside the base alone: what a batch of many costs, what comes and goes, and PEFT under the same load."""

import os
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from kindling_engine.bench.contest import say
from kindling_engine.bench.figures import BenchOptions, DeviceMissingError, Figures, Value, circumstances
from kindling_engine.bench.lora_adapters import adapter_bytes, adapters_write
from kindling_engine.bench.lora_figures import lora_figures
from kindling_engine.bench.lora_loads import LoraLoad, spread, zipf
from kindling_engine.bench.run import Run
from kindling_engine.bench.shapes import SMALL, LlamaShape, checkpoint_write
from kindling_engine.bench.subjects import Worker, WorkerError
from kindling_engine.bench.workloads import Workload

_MIB = 1 << 20
_QUICK_LAYERS, _QUICK_REPEATS = 4, 2
_KV_TOKENS = 64 * 192
_STEP_TOKENS = 512
_LORA_MIB = 512
ROWS, LIVE, HELD = 32, 64, 8
"""Requests at once; adapters live and held where they do not fit."""


@dataclass(frozen=True, slots=True)
class Setup:
    """``counts`` of adapters make the curve; ``registered`` are known, ``zipf_requests`` draw among them."""

    shape: LlamaShape
    work: Workload
    counts: tuple[int, ...]
    registered: int
    zipf_requests: int
    repeats: int
    pairs: int
    threads: int

    @property
    def tight_mib(self) -> int:
        """Memory for eight adapters, and next to nothing beside."""
        return -(-HELD * adapter_bytes(self.shape) * 21 // 20 // _MIB)


@dataclass(slots=True)
class Measured:
    """Runs by their load's name, those of one place in a list from the same round; ``overhead`` pairs of step times."""

    runs: dict[str, list[Run]]
    overhead: list[tuple[float, float]]
    cold_s: list[float]
    swap_s: list[float]
    gbps: float
    notes: dict[str, Value]


def lora_measure(options: BenchOptions) -> Figures:
    """Run the loads; raises WorkerError when our own engine fails, DeviceMissingError on a GPU."""
    if options.on_cuda:
        raise DeviceMissingError(
            "On a GPU adapters are measured kernel by kernel, and in a batch that decodes: ./kindling bench kernels, "
            "./kindling bench engine --only adapters."
        )
    setup = setup_for(quick=options.quick, repeats=options.repeats, threads=os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="kindling-bench-") as name, ExitStack() as stack:
        measured = _measure(setup, Path(name), stack)
    return Figures({**circumstances(), **lora_figures(setup, measured)})


def setup_for(*, quick: bool, repeats: int, threads: int) -> Setup:
    """What ``--quick`` and a full run do."""
    if quick:
        return Setup(
            SMALL.cut(_QUICK_LAYERS),
            Workload("lora", ROWS, 0, 8, 10),
            (8, 32, 128),
            160,
            48,
            min(repeats, _QUICK_REPEATS),
            4,
            threads,
        )
    return Setup(
        SMALL, Workload("lora", ROWS, 0, 64, 64), (1, 8, 32, 128, 512, 2000), 2000, 128, repeats, 9, threads
    )


def _measure(setup: Setup, folder: Path, stack: ExitStack) -> Measured:
    say(f"writing a random checkpoint and {setup.registered} adapters")
    checkpoint_write(setup.shape, folder / "model")
    names = adapters_write(setup.shape, folder / "adapters", setup.registered)
    settings: dict[str, Any] = {
        "folder": str(folder / "model"),
        "adapters": str(folder / "adapters"),
        "device": "cpu",
        "kv_tokens": _KV_TOKENS,
        "max_batch": LIVE,
        "step_tokens": _STEP_TOKENS,
        "threads": setup.threads,
    }
    ours = stack.enter_context(Worker("lora", {**settings, "lora_mib": _LORA_MIB}, threads=setup.threads))
    tight = stack.enter_context(
        Worker("lora", {**settings, "lora_mib": setup.tight_mib}, threads=setup.threads)
    )
    plain = stack.enter_context(Worker("ours", settings, threads=setup.threads))
    peer = None
    if find_spec("peft") is not None:
        peer = stack.enter_context(Worker("peft", {**settings, "names": names[:ROWS]}, threads=setup.threads))
    for worker in (ours, tight, plain):
        worker.ready()
    note = _await_peer(peer)
    gbps = float(plain.ask("bandwidth", device="cpu", threads=setup.threads)["gbps"])
    rounds = _Rounds(setup, names, ours, Measured({}, [], [], [], gbps, {}))
    rounds.warm_up(ours, tight, plain)
    rounds.cold()
    rounds.curve(plain)
    rounds.overhead()
    rounds.swaps()
    rounds.thrash(tight)
    rounds.zipf()
    if peer is None or note:
        rounds.measured.notes["peft"] = note
    else:
        try:
            rounds.peft(peer)
        except WorkerError as error:
            rounds.measured.notes["peft"] = str(error)
    return rounds.measured


def _await_peer(peer: Worker | None) -> str:
    """Wait until PEFT has loaded, which would disturb what is measured; why it will not run, if so."""
    if peer is None:
        return "not installed"
    try:
        peer.ready()
    except WorkerError as error:
        return str(error)
    return ""


class _Rounds:
    """Runs of our core with adapters, ``ours``, in turn with others."""

    def __init__(self, setup: Setup, names: list[str], ours: Worker, measured: Measured) -> None:
        self.measured = measured
        self._setup = setup
        self._names = names
        self._ours = ours
        self._seeds = count(1)

    def warm_up(self, *workers: Worker) -> None:
        load = LoraLoad(Workload("warm-up", 4, 0, 8, 3), ("",) * 4)
        for worker in workers:
            self._run(worker, load, next(self._seeds))

    def cold(self) -> None:
        """The first time that adapters are read, checks and all."""
        for name in self._names[:HELD]:
            self.measured.cold_s.append(float(self._ours.ask("adapter_load", adapter=name)["seconds"]))

    def curve(self, plain: Worker) -> None:
        """Every number of adapters in turn, beside the base, and the engine that the engine bench measures."""
        work = self._setup.work
        for _ in range(self._setup.repeats):
            seed = next(self._seeds)
            self._note("engine", plain, spread(work, [], seed), seed)
            for adapters in (0, *self._setup.counts):
                load = spread(work, self._names[:adapters], seed)
                self._load_all(load)
                self._note(f"a{adapters}", self._ours, load, seed)

    def overhead(self) -> None:
        """Base rows alone, with eight adapters in memory and with none, which goes first taking turns."""
        # Steps are what is looked at, and every pair is a ratio of its own: short ones, many of them.
        load = spread(replace(self._setup.work, own=8, output=min(self._setup.work.output, 24)), [], 0)
        for index in range(self._setup.pairs):
            times: dict[bool, float] = {}
            for loaded in (True, False) if index % 2 else (False, True):
                self._ours.ask("adapters_drop")
                if loaded:
                    for name in self._names[:HELD]:
                        self._ours.ask("adapter_load", adapter=name)
                run = self._run(self._ours, load, next(self._seeds))
                times[loaded] = run.decode_s / run.decode_tokens
            self.measured.overhead.append((times[True], times[False]))

    def swaps(self) -> None:
        """Adapters that were read before, back into memory, nothing else going on."""
        for _ in range(max(2, self._setup.repeats - 1)):
            self._ours.ask("adapters_drop")
            for name in self._names[:HELD]:
                self.measured.swap_s.append(float(self._ours.ask("adapter_load", adapter=name)["seconds"]))

    def thrash(self, tight: Worker) -> None:
        """64 live adapters at once, with memory for all of them and for eight."""
        work = replace(self._setup.work, name="thrash", requests=LIVE)
        for _ in range(self._setup.repeats):
            seed = next(self._seeds)
            load = spread(work, self._names[:LIVE], seed)
            self._load_all(load)
            self._note("roomy", self._ours, load, seed)
            self._note("thrash", tight, load, seed)

    def zipf(self) -> None:
        """A stream of requests, 32 under way at any time, on one adapter and on many."""
        work = replace(self._setup.work, name="zipf", requests=self._setup.zipf_requests)
        # A service that has run for a while, not one that meets every adapter for the first time.
        self._load_all(LoraLoad(work, tuple(reversed(self._names))))
        for _ in range(self._setup.repeats):
            seed = next(self._seeds)
            one = LoraLoad(work, (self._names[0],) * work.requests, ROWS)
            self._note("one", self._ours, one, seed)
            self._note("zipf", self._ours, zipf(work, self._names, seed, at_once=ROWS), seed)

    def peft(self, peer: Worker) -> None:
        load = spread(self._setup.work, self._names[:ROWS], 0)
        for _ in range(self._setup.repeats):
            seed = next(self._seeds)
            self._load_all(load)
            self._note("ours32", self._ours, load, seed)
            self._note("peft32", peer, load, seed)

    def _load_all(self, load: LoraLoad) -> None:
        """The curve is about steps; what a load takes is measured for itself."""
        for name in dict.fromkeys(filter(None, load.adapters)):
            self._ours.ask("adapter_load", adapter=name)

    def _note(self, name: str, worker: Worker, load: LoraLoad, seed: int) -> None:
        run = self._run(worker, load, seed)
        self.measured.runs.setdefault(name, []).append(run)
        first_ms = 1000 * median(run.first_s) if run.first_s else 0.0
        say(f"{name}: {run.tok_s:,.1f} tok/s in {run.wall_s:.1f} s, first token after {first_ms:,.0f} ms")

    def _run(self, worker: Worker, load: LoraLoad, seed: int) -> Run:
        of_adapters: dict[str, Any] = {} if worker.kind == "ours" else {"adapters": load.adapters}
        if load.at_once:
            of_adapters["at_once"] = load.at_once
        setup = self._setup
        prompts = load.work.prompts(vocab_size=setup.shape.vocab_size, seed=seed)
        return Run(
            **worker.ask(
                "run", prompts=prompts, output=load.work.output, threads=setup.threads, **of_adapters
            )
        )
