"""The arm of the engine bench on a checkpoint in bf16, as most are published: half the bytes, nothing rounded."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from kindling_engine.bench.contest import Entrant, say
from kindling_engine.bench.figures import Value
from kindling_engine.bench.shapes import LlamaShape, checkpoint_write
from kindling_engine.bench.subjects import Worker
from kindling_engine.bench.workloads import Workload


def published_measure(
    fp32: Entrant,
    shape: LlamaShape,
    settings: dict[str, Any],
    loads: tuple[Workload, ...],
    *,
    pairs: int,
    seeds: Iterator[int],
) -> dict[str, Value]:
    """Run ``loads`` on checkpoints in fp32 and in bf16 in turn, ``pairs`` times, each in its own process with the same
    ``settings``.

    Raises WorkerError when our own engine fails.
    """
    with tempfile.TemporaryDirectory(prefix="kindling-bench-bf16-") as name:
        checkpoint_write(shape, Path(name), dtype=torch.bfloat16)
        with Worker("ours", {**settings, "folder": name}, threads=fp32.threads) as worker:
            published = Entrant(worker.ready(), "", fp32.threads)
            _run(published, Workload("warm-up", 4, 0, 24, 3), shape.vocab_size, next(seeds))
            values: dict[str, Value] = {
                "bf16_weights_mb": float(worker.facts["weights_bytes"]) / 1e6,
                "bf16_fp32_weights_mb": float(fp32.worker.facts["weights_bytes"]) / 1e6,
            }
            for load in loads:
                runs = []
                for _ in range(pairs):
                    seed = next(seeds)
                    plain, ours = (_run(one, load, shape.vocab_size, seed) for one in (fp32, published))
                    say(f"{load.name} bf16: {ours:,.1f} tok/s, {ours / plain:.2f} of fp32's")
                    runs.append((plain, ours))
                values[f"bf16_{load.name}_tok_s"] = median(ours for _, ours in runs)
                values[f"bf16_vs_fp32_{load.name}"] = median(ours / plain for plain, ours in runs)
            return values


def _run(entrant: Entrant, load: Workload, vocab_size: int, seed: int) -> float:
    return entrant.worker.run(load, vocab_size=vocab_size, seed=seed, threads=entrant.threads).tok_s
