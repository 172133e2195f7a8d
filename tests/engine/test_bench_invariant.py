"""The arm of the engine bench in the batch-invariant mode: pairs in turn, on the same prompts, at the same threads."""

from itertools import count
from typing import Any

import pytest
import torch

from kindling_engine.bench import invariant
from kindling_engine.bench.contest import Entrant
from kindling_engine.bench.invariant import invariant_measure
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.run import Run
from kindling_engine.bench.shapes import LlamaShape, checkpoint_write
from kindling_engine.bench.workloads import W1, W3, Workload

TINY = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True)


class FixedWorker:
    """A worker of a known speed that writes down what it ran."""

    kind = "ours"

    def __init__(self, kind: str, settings: dict[str, Any], *, threads: int, tok_s: float = 40) -> None:
        self.settings, self.threads, self.tok_s = settings, threads, tok_s
        self.ran: list[tuple[str, int, int, str]] = []

    def __enter__(self) -> "FixedWorker":
        MADE.append(self)
        return self

    def __exit__(self, *_: object) -> None: ...

    def ready(self) -> "FixedWorker":
        return self

    def run(self, load: Workload, *, vocab_size: int, seed: int, threads: int, mode: str) -> Run:
        self.ran.append((load.name, seed, threads, mode))
        return Run(load.tokens_out / self.tok_s, load.tokens_out)


MADE: list[FixedWorker] = []


def test_the_price_is_the_share_of_the_speed_that_is_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(invariant, "Worker", FixedWorker)
    MADE.clear()
    ordinary = FixedWorker("ours", {}, threads=2, tok_s=50)
    values = invariant_measure(
        Entrant(ordinary, "", 2), {"kv_tokens": 9}, (W1, W3), vocab_size=99, pairs=2, seeds=count(1)
    )
    assert MADE[0].settings == {"kv_tokens": 9, "batch_invariant": True} and MADE[0].threads == 2
    assert values == {
        "batch_invariant_w1_tok_s": pytest.approx(40),
        "batch_invariant_price_w1": pytest.approx(0.2),
        "batch_invariant_w3_tok_s": pytest.approx(40),
        "batch_invariant_price_w3": pytest.approx(0.2),
    }
    pairs = [(name, seed) for name, seed, _, _ in ordinary.ran]
    assert pairs == [("w1", 2), ("w1", 3), ("w3", 4), ("w3", 5)]
    assert [(name, seed) for name, seed, _, _ in MADE[0].ran] == [("warm-up", 1), *pairs]


def test_an_engine_of_the_bench_runs_in_the_mode(tmp_path):
    checkpoint_write(TINY, tmp_path)
    engine = OurEngine.load(
        tmp_path,
        device=torch.device("cpu"),
        kv_tokens=512,
        max_batch=4,
        step_tokens=64,
        batch_invariant=True,
    )
    prompts = Workload("load", 3, 16, 9, 5).prompts(vocab_size=320, seed=1)
    assert engine.run(prompts, 5).tokens == 15
