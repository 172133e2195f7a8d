"""The bench's arm on a checkpoint in bf16: what it is run on, pairs in turn, on the same prompts."""

from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load_file

from kindling_engine.bench import published
from kindling_engine.bench.contest import Entrant
from kindling_engine.bench.published import published_measure
from kindling_engine.bench.run import Run
from kindling_engine.bench.shapes import LlamaShape
from kindling_engine.bench.workloads import W1, W3, Workload

TINY = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True)


class FixedWorker:
    """A worker of a known speed that writes down what it ran, and on what."""

    made: "list[FixedWorker]"
    kind = "ours"

    def __init__(self, kind: str, settings: dict[str, Any], *, threads: int) -> None:
        self.tok_s, self.settings, self.threads = 50, settings, threads
        self.ran: list[tuple[str, int, int]] = []
        self.facts = {"weights_bytes": 4_000_000}
        self.dtypes: set[torch.dtype] = set()
        FixedWorker.made.append(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def ready(self) -> Self:
        stored = load_file(Path(self.settings["folder"]) / "model.safetensors")
        self.dtypes = {tensor.dtype for tensor in stored.values()}
        self.tok_s, self.facts = 75, {"weights_bytes": 2_000_000}
        return self

    def run(self, load: Workload, *, vocab_size: int, seed: int, threads: int) -> Run:
        self.ran.append((load.name, seed, threads))
        return Run(load.tokens_out / self.tok_s, load.tokens_out)


def test_both_run_the_same_in_turn_and_one_of_them_in_bf16(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FixedWorker, "made", [], raising=False)
    monkeypatch.setattr(published, "Worker", FixedWorker)
    settings = {"folder": "elsewhere", "device": "cpu", "kv_tokens": 512}
    fp32 = FixedWorker("ours", settings, threads=2)
    values = published_measure(Entrant(fp32, "", 2), TINY, settings, (W1, W3), pairs=2, seeds=count(1))
    assert values == {
        "bf16_weights_mb": 2.0,
        "bf16_fp32_weights_mb": 4.0,
        "bf16_w1_tok_s": pytest.approx(75),
        "bf16_vs_fp32_w1": pytest.approx(1.5),
        "bf16_w3_tok_s": pytest.approx(75),
        "bf16_vs_fp32_w3": pytest.approx(1.5),
    }
    _, bf16 = FixedWorker.made
    assert bf16.dtypes == {torch.bfloat16}
    assert (bf16.threads, bf16.settings["kv_tokens"]) == (2, 512)
    assert fp32.ran == [("w1", 2, 2), ("w1", 3, 2), ("w3", 4, 2), ("w3", 5, 2)]
    assert bf16.ran == [("warm-up", 1, 2), *fp32.ran]
    assert not Path(bf16.settings["folder"]).exists(), "the checkpoint was left behind"
