"""The engine bench of a GPU, as far as a CPU can run it: the gate, loads of different lengths, decode at batches."""

import json
import math
from dataclasses import replace

import pytest
import torch

from kindling_engine.bench import cuda_gate, engine_cuda
from kindling_engine.bench.command import bench
from kindling_engine.bench.cuda_decode import decode_measure
from kindling_engine.bench.cuda_gate import SHAPES, WrongNumbersError, gate_measure, gates_measure
from kindling_engine.bench.engine_cuda import W1, measured_or_why, mixed_measure
from kindling_engine.bench.logits import logits_compare
from kindling_engine.bench.ours import OurEngine
from kindling_engine.bench.shapes import LLAMA_1B, LLAMA_8B, QWEN3_06B, QWEN3_8B, LlamaShape
from kindling_engine.bench.subjects import WorkerError
from kindling_engine.bench.workloads import MixedWorkload, Workload

TINY = LlamaShape(64, 2, 4, 2, 112, 320, tie_word_embeddings=True, head_size=32, qk_norm=True)
CPU = torch.device("cpu")


def test_comparing_logits():
    reference = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    same = logits_compare(reference, reference + 5)
    assert same.flips == 0.0 and abs(same.mean_kl) < 1e-6 and same.deviation == pytest.approx(5 / 3)
    other = logits_compare(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([[0.0, 0.0]]))
    # ¾·ln(¾ / ½) + ¼·ln(¼ / ½); of equals the first is best.
    assert other.mean_kl == pytest.approx(0.75 * math.log(1.5) - 0.25 * math.log(2.0), abs=1e-6)
    assert other.flips == 0.0
    assert logits_compare(reference, -reference).flips == 1.0


def test_the_mixed_load_is_the_published_one():
    assert len(W1.inputs) == len(W1.output) == 256
    assert (
        min(W1.inputs) >= 100 and max(W1.inputs) <= 1024 and min(W1.output) >= 100 and max(W1.output) <= 1024
    )
    assert 500 < sum(W1.output) / 256 < 620
    prompts = W1.cut(4).prompts(vocab_size=320, seed=1)
    assert [len(prompt) for prompt in prompts] == [length // 4 for length in W1.inputs]


def test_the_gate_compares_each_shape_with_transformers():
    load = MixedWorkload("gate", [5, 40, 17], [1, 1, 1])
    plain = replace(TINY, qk_norm=False, tie_word_embeddings=False, llama3_factor=8.0)
    figures = gates_measure(CPU, {"qwen": TINY, "llama": plain}, load)
    assert set(figures["gates"]) == {"qwen", "llama"}
    assert figures["gate_logit_deviation"] == max(
        gate["gate_logit_deviation"] for gate in figures["gates"].values()
    )
    assert figures["gate_logit_deviation"] < 1e-4 and figures["gate_greedy_deficit"] < 1e-4
    assert figures["gate_equal_best_tokens"] == 1.0


def test_the_gate_has_every_shape_that_is_published_and_cuts_nothing_but_layers():
    published = {"llama_1b": LLAMA_1B, "llama_8b": LLAMA_8B, "qwen3_06b": QWEN3_06B, "qwen3_8b": QWEN3_8B}
    assert {name: replace(shape, num_hidden_layers=0) for name, shape in SHAPES.items()} == {
        name: replace(shape, num_hidden_layers=0) for name, shape in published.items()
    }
    # What a checkpoint of each takes in bf16, for two engines one after another.
    assert all(shape.num_hidden_layers > 1 and 2 * shape.parameters < 5e9 for shape in SHAPES.values())


def test_the_gate_lets_no_wrong_numbers_through(monkeypatch):
    right = OurEngine.tokens
    monkeypatch.setattr(
        cuda_gate.OurEngine,
        "tokens",
        lambda engine, prompts, output: [
            [(t + 7) % 320 for t in made] for made in right(engine, prompts, output)
        ],
    )
    with pytest.raises(WrongNumbersError, match="tiny"):
        gate_measure(CPU, "tiny", TINY, MixedWorkload("gate", [5, 40], [1, 1]))


def test_decode_at_each_batch_beside_its_ceiling():
    figures = decode_measure(
        TINY,
        device=CPU,
        gbps=10.0,
        repeats=1,
        batches=(1, 3),
        context=20,
        output=4,
        long_load=Workload("long", 5, 0, 12, 3),
    )
    for batch in (1, 3):
        assert figures[f"gpu_8b_b{batch}_tok_s"] > 0
        assert figures[f"gpu_8b_b{batch}_fraction"] == pytest.approx(
            figures[f"gpu_8b_b{batch}_tok_s"] / figures[f"gpu_8b_b{batch}_ceiling_tok_s"]
        )
    assert 1 < figures["gpu_8b_b3_ceiling_tok_s"] / figures["gpu_8b_b1_ceiling_tok_s"] < 3
    assert figures["gpu_ttft_1k_ms"] > 0 and figures["gpu_w2_tok_s"] > 0
    assert figures["gpu_8b_kv_fp8_b3_tok_s"] / figures["gpu_8b_b3_tok_s"] == pytest.approx(
        figures["gpu_8b_kv_fp8_b3_vs_bf16"]
    )
    # A product in e4m3 wants a GPU: without one there is a reason in place of a figure.
    assert figures["gpu_8b_fp8_b32_vs_bf16"] is None and "fp8" in figures["fp8: why not"]


def test_a_part_that_fails_costs_no_other_its_figures(capsys):
    def fails() -> dict[str, float]:
        raise WorkerError("ours ended with status 1")

    assert measured_or_why("gpu_w1", fails) == {"gpu_w1: why not": "WorkerError: ours ended with status 1"}
    assert "in fails" in capsys.readouterr().err
    assert measured_or_why("gpu_w1", lambda: {"gpu_w1_tok_s": 1.0}) == {"gpu_w1_tok_s": 1.0}


def test_one_part_of_the_bench_can_be_asked_for(monkeypatch, capsys):
    """Nothing of the others runs, and the kept figures of a whole run are not written over."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name, pretended in {
        "get_device_name": lambda device: "a GPU",
        "empty_cache": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, pretended)
    monkeypatch.setattr(engine_cuda, "read_gbps", lambda device: 4321.0)
    monkeypatch.setattr(engine_cuda, "decode_measure", lambda *args, **said: {"gpu_8b_b1_tok_s": 250.0})
    assert bench(["engine", "--only", "decode", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["gpu_8b_b1_tok_s"] == 250.0 and "gate_logit_deviation" not in figures
    with pytest.raises(SystemExit):
        bench(["kernels", "--only", "decode"])
    assert "on a GPU" in capsys.readouterr().err


@pytest.mark.long
def test_a_mixed_load_beside_its_peers():
    load = MixedWorkload("gpu_w1", [12, 30, 5], [8, 4, 12])
    figures = mixed_measure(TINY, load, repeats=1, install=False, device="cpu", kv_tokens=4096)
    assert figures["gpu_w1_tok_s"] > 0
    peers = figures["peers"]["gpu_w1"]
    assert any(name.startswith("transformers") for name in peers)
