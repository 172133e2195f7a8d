"""Who is fastest under a load: ours against every way to run every peer, interleaved."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import median

from kindling_engine.bench.run import Run
from kindling_engine.bench.subjects import Worker, WorkerError
from kindling_engine.bench.workloads import Load, Workload

# A trial is this much shorter than the load, and who is slower than the best by this factor there runs no more.
_TRIAL_CUT = 4
HOPELESS = 1.5
_SHORT_TRIAL_REQUESTS = 16


@dataclass(frozen=True, slots=True)
class Entrant:
    """One way to run a load: an engine, one of its modes, a number of threads."""

    worker: Worker
    mode: str
    threads: int

    @property
    def name(self) -> str:
        mode = f" {self.mode}" if self.mode else ""
        return f"{self.worker.kind}{mode}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclass(slots=True)
class Result:
    """Runs of one load by entrant; ``trial_tok_s`` of those that a short trial ruled out; ``failed``: who did, why."""

    load: Load
    runs: dict[str, list[Run]] = field(default_factory=dict)
    trial_tok_s: dict[str, float] = field(default_factory=dict)
    trial_best_tok_s: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)

    def tok_s(self, name: str) -> float:
        return median(run.tok_s for run in self.runs[name])

    def best(self, ours: str) -> tuple[str, float] | None:
        """The fastest peer and its tokens per second."""
        peers = [(self.tok_s(name), name) for name in self.runs if name != ours]
        if not peers:
            return None
        tok_s, name = max(peers)
        return name, tok_s

    def versus(self, ours: str) -> float | None:
        best = self.best(ours)
        return self.tok_s(ours) / best[1] if best else None


def contest(
    load: Load,
    ours: Entrant,
    peers: list[Entrant],
    *,
    vocab_size: int,
    repeats: int,
    seeds: Iterator[int],
    hopeless: float = HOPELESS,
) -> Result:
    """Rule out the hopeless in a short trial, then run the others and ours in turn, ``repeats`` times.

    ``hopeless`` 1 lets nobody but the best of the trial go on. A peer that fails is out, with what it ran before.
    Raises WorkerError where ours fails.
    """
    result = Result(load)
    finalists = _trial(load, peers, result, vocab_size, seeds, hopeless)
    for _ in range(repeats):
        # One seed a round: everybody gets the same prompts, and nobody has seen them before.
        seed = next(seeds)
        for entrant in (ours, *finalists):
            try:
                run = entrant.worker.run(
                    load, vocab_size=vocab_size, seed=seed, threads=entrant.threads, mode=entrant.mode
                )
            except WorkerError as error:
                if entrant is ours:
                    raise
                finalists.remove(entrant)
                _drop(result, entrant, error)
                continue
            result.runs.setdefault(entrant.name, []).append(run)
            say(f"{load.name} {entrant.name}: {run.tok_s:,.1f} tok/s in {run.wall_s:.1f} s")
    return result


def _trial(  # noqa: PLR0917, what `contest` was given
    load: Load,
    peers: list[Entrant],
    result: Result,
    vocab_size: int,
    seeds: Iterator[int],
    hopeless: float,
) -> list[Entrant]:
    short = load.cut(_TRIAL_CUT)
    if hopeless == 1.0 and isinstance(short, Workload):
        # Whoever has time for one finalist alone has little for the trial.
        short = replace(short, requests=min(short.requests, _SHORT_TRIAL_REQUESTS))
    speeds: dict[str, float] = {}
    for entrant in peers:
        try:
            seed = next(seeds)
            run = entrant.worker.run(
                short, vocab_size=vocab_size, seed=seed, threads=entrant.threads, mode=entrant.mode
            )
        except WorkerError as error:
            _drop(result, entrant, error)
            continue
        speeds[entrant.name] = run.tok_s
        say(f"{load.name} trial {entrant.name}: {run.tok_s:,.1f} tok/s")
    best = max(speeds.values(), default=0.0)
    result.trial_best_tok_s = best
    result.trial_tok_s = {name: speed for name, speed in speeds.items() if speed * hopeless < best}
    return [peer for peer in peers if peer.name in speeds and peer.name not in result.trial_tok_s]


def _drop(result: Result, entrant: Entrant, error: WorkerError) -> None:
    result.runs.pop(entrant.name, None)
    result.failed[entrant.name] = str(error)
    say(f"{result.load.name} {entrant.name}: {error}")


def say(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)
