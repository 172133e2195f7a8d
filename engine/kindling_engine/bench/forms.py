"""The arms of the engine bench with smaller weights, or smaller keys and values: speed, memory and what each costs in
quality, beside fp32.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from kindling_engine.bench.contest import Entrant, say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.ours import KV_FP8
from kindling_engine.bench.quality import Drift, drift_measure, starter_prompts
from kindling_engine.bench.workloads import Workload
from kindling_engine.starter import SPARK_PATH

_STARTER_TOKENS = 4096
_PROMPT_TOKENS = 128
_SEED = 5


def form_measure(
    form: str,
    fp32: Entrant,
    folder: Path,
    loads: tuple[Workload, ...],
    *,
    vocab_size: int,
    pairs: int,
    tokens: int,
    seeds: Iterator[int],
) -> dict[str, Value]:
    """Run ``loads`` in fp32 and in the mode ``form`` of ``OurSubject`` in turn, ``pairs`` times.

    Then compare predictions over ``tokens`` tokens of the bench's model, which is in ``folder``, and over some of the
    starter model, whose weights are not random.

    Raises WorkerError when our own engine fails.
    """
    worker = fp32.worker
    small = Entrant(worker, form, fp32.threads)
    part = "kv" if form == KV_FP8 else "weights"
    values: dict[str, Value] = {
        f"{form}_{part}_mb": float(worker.ask("facts", mode=form)[f"{part}_bytes"]) / 1e6,
        f"{form}_fp32_{part}_mb": float(worker.facts[f"{part}_bytes"]) / 1e6,
    }
    _run(small, Workload("warm-up", 4, 0, 24, 3), vocab_size, next(seeds))
    for load in loads:
        runs = [_pair(fp32, small, load, vocab_size, next(seeds)) for _ in range(pairs)]
        values[f"{form}_{load.name}_tok_s"] = median(ours for _, ours in runs)
        values[f"{form}_vs_fp32_{load.name}"] = median(ours / plain for plain, ours in runs)
    spark = drift_measure(SPARK_PATH, form, starter_prompts(SPARK_PATH, min(tokens, _STARTER_TOKENS)))
    prompts = Workload("quality", tokens // _PROMPT_TOKENS, 0, _PROMPT_TOKENS, 1)
    drift = drift_measure(folder, form, prompts.prompts(vocab_size=vocab_size, seed=_SEED))
    return values | _drift(f"{form}_spark", spark) | _drift(form, drift)


def _pair(fp32: Entrant, small: Entrant, load: Workload, vocab_size: int, seed: int) -> tuple[float, float]:
    """Tokens per second of both for the same prompts, one right after the other."""
    plain, ours = (_run(entrant, load, vocab_size, seed) for entrant in (fp32, small))
    say(f"{load.name} {small.name}: {ours:,.1f} tok/s, {ours / plain:.2f} of fp32's")
    return plain, ours


def _run(entrant: Entrant, load: Workload, vocab_size: int, seed: int) -> float:
    return entrant.worker.run(
        load, vocab_size=vocab_size, seed=seed, threads=entrant.threads, mode=entrant.mode
    ).tok_s


def _drift(name: str, drift: Drift) -> dict[str, Value]:
    say(
        f"{name}: {drift.kl_nats:.2e} nats, {drift.top1_flips:.2%} other best tokens over {drift.tokens} tokens"
    )
    return {f"{name}_kl_nats": drift.kl_nats, f"{name}_top1_flips": drift.top1_flips}
