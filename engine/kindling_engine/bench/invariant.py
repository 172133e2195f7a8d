"""The arm of the engine bench in the batch-invariant mode: what equal bits in any company cost."""

from collections.abc import Iterator
from statistics import median

from kindling_engine.bench.contest import Entrant, say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.ours import BATCH_INVARIANT
from kindling_engine.bench.workloads import Workload


def invariant_measure(
    ordinary: Entrant,
    loads: tuple[Workload, ...],
    *,
    vocab_size: int,
    pairs: int,
    seeds: Iterator[int],
) -> dict[str, Value]:
    """Run ``loads`` in both modes in turn, ``pairs`` times; the price is the share of the speed that is lost.

    Raises WorkerError when our own engine fails.
    """
    values: dict[str, Value] = {}
    invariant = Entrant(ordinary.worker, BATCH_INVARIANT, ordinary.threads)
    # The first step tries which heights of tiles give equal bits.
    _run(invariant, Workload("warm-up", 4, 0, 24, 3), vocab_size, next(seeds))
    for load in loads:
        runs = []
        for _ in range(pairs):
            seed = next(seeds)
            plain, ours = (_run(one, load, vocab_size, seed) for one in (ordinary, invariant))
            say(f"{load.name} {invariant.name}: {ours:,.1f} tok/s, {ours / plain:.2f} of the ordinary mode's")
            runs.append((plain, ours))
        values[f"batch_invariant_{load.name}_tok_s"] = median(ours for _, ours in runs)
        values[f"batch_invariant_price_{load.name}"] = 1 - median(ours / plain for plain, ours in runs)
    return values


def _run(entrant: Entrant, load: Workload, vocab_size: int, seed: int) -> float:
    return entrant.worker.run(
        load, vocab_size=vocab_size, seed=seed, threads=entrant.threads, mode=entrant.mode
    ).tok_s
