"""The engine bench: loads as they are described, honest choices among peers, and every figure it promises."""

import json
import os
import subprocess
import sys
from itertools import count

import pytest
import torch

from kindling_engine.bench.contest import Entrant, contest
from kindling_engine.bench.figures import Figures
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.random_model import random_model
from kindling_engine.bench.report import report_write
from kindling_engine.bench.run import Run
from kindling_engine.bench.shapes import (
    LLAMA_1B,
    LLAMA_8B,
    QWEN3_06B,
    QWEN3_8B,
    SMALL,
    LlamaShape,
    checkpoint_write,
)
from kindling_engine.bench.subjects import WorkerError
from kindling_engine.bench.workloads import W1, W3, Workload
from kindling_engine.models.registry import model_load
from kindling_tiny_models import reference_load

TINY = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True)
TINY_QWEN3 = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True, head_size=32, qk_norm=True)
CPU = torch.device("cpu")
FIGURES = {
    "cpu_w1_tok_s", "cpu_w1_vs_best_peer", "cpu_w2_tok_s", "cpu_w2_vs_best_peer", "cpu_w3_tok_s",
    "cpu_w3_vs_best_peer", "base_tok_s", "ttft_p50_ms", "bandwidth_fraction", "rss_ratio",
}  # fmt: skip


def test_the_shapes_have_the_sizes_they_are_named_after():
    assert SMALL.parameters == pytest.approx(0.135e9, rel=0.01)
    assert LLAMA_8B.parameters == pytest.approx(8.03e9, rel=0.01)
    assert SMALL.read_per_step == SMALL.parameters
    assert LLAMA_8B.read_per_step == LLAMA_8B.parameters - 128256 * 4096
    assert LLAMA_1B.parameters == pytest.approx(1.236e9, rel=0.001)
    assert QWEN3_8B.parameters == pytest.approx(8.19e9, rel=0.001)
    assert QWEN3_06B.parameters == pytest.approx(0.596e9, rel=0.001)


def test_a_load_shares_its_prefix_and_nothing_with_another_seed():
    prompts = W3.prompts(vocab_size=49152, seed=1)
    assert [len(prompt) for prompt in prompts] == [544] * 64
    assert len({tuple(prompt[:512]) for prompt in prompts}) == 1
    assert len({tuple(prompt[512:]) for prompt in prompts}) == 64
    assert prompts[0][:16] != W3.prompts(vocab_size=49152, seed=2)[0][:16]


@pytest.mark.parametrize("shape", [TINY, TINY_QWEN3], ids=["llama", "qwen3"])
def test_a_checkpoint_written_for_all_is_loaded_by_ours_and_by_transformers(tmp_path, shape):
    checkpoint_write(shape, tmp_path)
    stored = sum(tensor.numel() for _, tensor in shape.tensors(seed=0, dtype=torch.float32, device=CPU))
    assert stored == shape.parameters
    model = model_load(tmp_path, device=CPU, dtype=torch.float32)
    assert model.config.num_layers == 2
    assert sum(one.numel() for one in reference_load(tmp_path).parameters()) == shape.parameters


def test_our_engine_makes_exactly_the_tokens_of_a_load():
    engine = OurEngine(
        random_model(TINY, dtype=torch.float32, device=CPU), kv_tokens=2048, max_batch=8, step_tokens=64
    )
    load = Workload("load", 5, 32, 9, 6)
    run = engine.run(load.prompts(vocab_size=320, seed=1), 6)
    assert run.tokens == 30
    assert len(run.first_s) == 5
    assert 0 < run.decode_s < run.wall_s
    assert 0 < run.decode_tokens <= 25


class FixedWorker:
    """A worker of a known speed; what it was asked to run is written down."""

    kind = "fixed"

    def __init__(self, tok_s: float, *, good_for: int = 99) -> None:
        self.tok_s, self.good_for, self.ran = tok_s, good_for, []

    def run(self, load, *, vocab_size, seed, threads, mode) -> Run:
        if len(self.ran) == self.good_for:
            raise WorkerError("no such kernel")
        self.ran.append((load.output, seed))
        return Run(load.tokens_out / self.tok_s, load.tokens_out)


def test_the_hopeless_lose_in_a_trial_and_the_others_take_turns():
    ours, near, far, broken = FixedWorker(30), FixedWorker(10), FixedWorker(5), FixedWorker(1, good_for=0)
    us = Entrant(ours, "ours", 1)
    peers = [Entrant(near, "near", 1), Entrant(far, "far", 2), Entrant(broken, "broken", 1)]
    result = contest(W1, us, peers, vocab_size=99, repeats=3, seeds=count(1))
    assert result.versus(us.name) == pytest.approx(3.0)
    assert result.best(us.name) == ("fixed near, 1 thread", pytest.approx(10))
    assert [output for output, _ in near.ran] == [32, 128, 128, 128]
    assert [output for output, _ in far.ran] == [32]
    assert [seed for _, seed in ours.ran] == [seed for _, seed in near.ran[1:]]
    assert result.trial_tok_s == {"fixed far, 2 threads": pytest.approx(5)}
    assert result.failed == {"fixed broken, 1 thread": "no such kernel"}


def test_a_peer_that_fails_at_full_length_is_out_and_the_others_go_on():
    ours, near, weak = FixedWorker(30), FixedWorker(10), FixedWorker(20, good_for=2)
    us, peers = Entrant(ours, "ours", 1), [Entrant(weak, "weak", 1), Entrant(near, "near", 1)]
    result = contest(W1, us, peers, vocab_size=99, repeats=3, seeds=count(1), hopeless=3.0)
    assert {name: len(runs) for name, runs in result.runs.items()} == {us.name: 3, peers[1].name: 3}
    assert result.failed == {peers[0].name: "no such kernel"}
    assert len(weak.ran) == 2, "its trial and a round"
    with pytest.raises(WorkerError):
        contest(W1, Entrant(weak, "ours", 1), [], vocab_size=99, repeats=1, seeds=count(1))


def test_where_time_is_short_the_best_of_the_trial_alone_goes_on():
    ours, near, far = FixedWorker(30), FixedWorker(10), FixedWorker(9)
    peers = [Entrant(far, "far", 1), Entrant(near, "near", 1)]
    result = contest(
        W3, Entrant(ours, "ours", 1), peers, vocab_size=99, repeats=2, seeds=count(1), hopeless=1.0
    )
    assert list(result.runs) == ["fixed ours, 1 thread", "fixed near, 1 thread"]
    assert result.trial_tok_s == {"fixed far, 1 thread": pytest.approx(9)}


def test_a_report_is_written_for_programs_and_for_people(tmp_path):
    figures = Figures({"a_tok_s": 12.5, "peers": {"w1": {"x": None}}})
    report_write(figures, "engine", "cpu", tmp_path, flags=" --quick")
    assert "`./kindling bench engine --device cpu --quick --json`" in (tmp_path / "engine-cpu.md").read_text()
    assert json.loads((tmp_path / "engine-cpu.json").read_text())["a_tok_s"] == 12.5
    assert "| peers · w1 · x | None |" in (tmp_path / "engine-cpu.md").read_text()


@pytest.mark.long
def test_the_quick_bench_gives_every_figure():
    ran = subprocess.run(
        [sys.executable, "-m", "kindling_engine.bench", "engine", "--quick", "--json", "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=400,
        check=True,
        env={**os.environ, "PYTHONPATH": "engine"},
    )
    values = json.loads(ran.stdout.splitlines()[-1])
    assert set(values) >= FIGURES
    assert all(values[name] > 0 for name in FIGURES)
    assert "generate" in json.dumps(values["peers"])
