"""The arm of the engine bench with int8 weights: speed, memory and what it costs in quality, beside fp32."""

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from kindling_engine.bench.contest import Entrant, say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.quality import Drift, drift_measure, starter_prompts
from kindling_engine.bench.subjects import Worker
from kindling_engine.bench.workloads import Workload
from kindling_engine.protocol.weight_forms import INT8
from kindling_engine.starter import SPARK_PATH

_STARTER_TOKENS = 4096
_PROMPT_TOKENS = 128
_SEED = 5


def int8_measure(
    fp32: Entrant,
    settings: dict[str, Any],
    loads: tuple[Workload, ...],
    *,
    vocab_size: int,
    pairs: int,
    tokens: int,
    seeds: Iterator[int],
) -> dict[str, Value]:
    """Run ``loads`` with both forms in turn, ``pairs`` times; compare predictions over ``tokens`` tokens of the bench's
    model, and over some of the starter model, whose weights are not random.

    Raises WorkerError when our own engine fails.
    """
    values: dict[str, Value] = {}
    with Worker("ours", {**settings, "weights": INT8}, threads=fp32.threads) as worker:
        values |= _drift(
            "int8wo_spark", drift_measure(SPARK_PATH, INT8, starter_prompts(SPARK_PATH, _STARTER_TOKENS))
        )
        int8 = Entrant(worker.ready(), INT8, fp32.threads)
        values["int8wo_weights_mb"] = float(worker.facts["weights_bytes"]) / 1e6
        values["int8wo_fp32_weights_mb"] = float(fp32.worker.facts["weights_bytes"]) / 1e6
        _run(int8, Workload("warm-up", 4, 0, 24, 3), vocab_size, next(seeds))
        for load in loads:
            runs = [_pair(fp32, int8, load, vocab_size, next(seeds)) for _ in range(pairs)]
            values[f"int8wo_{load.name}_tok_s"] = median(ours for _, ours in runs)
            values[f"int8wo_vs_fp32_{load.name}"] = median(ours / plain for plain, ours in runs)
    prompts = Workload("quality", tokens // _PROMPT_TOKENS, 0, _PROMPT_TOKENS, 1)
    drift = drift_measure(Path(settings["folder"]), INT8, prompts.prompts(vocab_size=vocab_size, seed=_SEED))
    return values | _drift("int8wo", drift)


def _pair(fp32: Entrant, int8: Entrant, load: Workload, vocab_size: int, seed: int) -> tuple[float, float]:
    """Tokens per second of both for the same prompts, one right after the other."""
    plain, ours = (_run(entrant, load, vocab_size, seed) for entrant in (fp32, int8))
    say(f"{load.name} {int8.name}: {ours:,.1f} tok/s, {ours / plain:.2f} of fp32's")
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
