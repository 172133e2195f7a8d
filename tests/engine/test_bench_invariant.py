"""The arm of the engine bench in the batch-invariant mode: pairs in turn, on the same prompts, at the same threads."""

from itertools import count

import pytest
import torch

from kindling_engine.bench.contest import Entrant
from kindling_engine.bench.invariant import invariant_measure
from kindling_engine.bench.ours import BATCH_INVARIANT, KV_FP8, OurEngine, OurSubject
from kindling_engine.bench.run import Run
from kindling_engine.bench.shapes import LlamaShape, checkpoint_write
from kindling_engine.bench.workloads import W1, W3, Workload
from kindling_engine.protocol.weight_forms import INT8

TINY = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True)


class FixedWorker:
    """A worker of a known speed by mode that writes down what it ran."""

    kind = "ours"

    def __init__(self) -> None:
        self.ran: list[tuple[str, str, int, int]] = []

    def run(self, load: Workload, *, vocab_size: int, seed: int, threads: int, mode: str) -> Run:
        self.ran.append((mode, load.name, seed, threads))
        return Run(load.tokens_out / (40 if mode else 50), load.tokens_out)


def test_the_price_is_the_share_of_the_speed_that_is_lost():
    worker = FixedWorker()
    values = invariant_measure(Entrant(worker, "", 2), (W1, W3), vocab_size=99, pairs=2, seeds=count(1))
    assert values == {
        "batch_invariant_w1_tok_s": pytest.approx(40),
        "batch_invariant_price_w1": pytest.approx(0.2),
        "batch_invariant_w3_tok_s": pytest.approx(40),
        "batch_invariant_price_w3": pytest.approx(0.2),
    }
    plain = [run[1:] for run in worker.ran if not run[0]]
    assert plain == [("w1", 2, 2), ("w1", 3, 2), ("w3", 4, 2), ("w3", 5, 2)]
    assert [run[1:] for run in worker.ran if run[0] == BATCH_INVARIANT] == [("warm-up", 1, 2), *plain]


def test_the_subject_runs_every_form_and_mode_beside_the_ordinary_one(tmp_path):
    checkpoint_write(TINY, tmp_path)
    settings = {"device": "cpu", "kv_tokens": 512, "max_batch": 4, "step_tokens": 64}
    subject = OurSubject(tmp_path, settings)
    prompts = Workload("load", 3, 16, 9, 5).prompts(vocab_size=320, seed=1)
    for mode in ("", INT8, BATCH_INVARIANT, KV_FP8, ""):
        assert subject.run(prompts, 5, threads=1, mode=mode).tokens == 15
    assert subject.facts(INT8)["weights_bytes"] < subject.facts()["weights_bytes"]
    assert 4 * subject.facts(KV_FP8)["kv_bytes"] == subject.facts()["kv_bytes"]


def test_an_engine_of_the_bench_runs_in_the_mode(tmp_path):
    checkpoint_write(TINY, tmp_path)
    engine = OurEngine.load(
        tmp_path,
        device=torch.device("cpu"),
        kv_tokens=512,
        max_batch=4,
        step_tokens=64,
        mode=BATCH_INVARIANT,
    )
    prompts = Workload("load", 3, 16, 9, 5).prompts(vocab_size=320, seed=1)
    assert engine.run(prompts, 5).tokens == 15
