"""The bench's arms with smaller weights: what they say of quality is so, and every figure it promises is there."""

from itertools import count

import pytest
import torch
from safetensors.torch import load_file

from kindling_engine.bench import forms
from kindling_engine.bench.contest import Entrant
from kindling_engine.bench.kept import kept_bytes
from kindling_engine.bench.ours import KV_FP8
from kindling_engine.bench.quality import drift_measure, starter_prompts
from kindling_engine.bench.run import Run
from kindling_engine.bench.workloads import W1, W2
from kindling_engine.models.registry import model_load
from kindling_engine.models.weight_forms import weight_form
from kindling_engine.protocol.weight_forms import CHECKPOINT, HALF, INT8
from kindling_engine.starter import SPARK_PATH
from kindling_parity import engine_parts, forced_logits, prompt_make
from kindling_tiny_models import VOCAB, model_make

FIGURES = {
    "int8wo_w1_tok_s", "int8wo_w2_tok_s", "int8wo_vs_fp32_w1", "int8wo_vs_fp32_w2", "int8wo_kl_nats",
    "int8wo_top1_flips", "int8wo_spark_kl_nats", "int8wo_spark_top1_flips", "int8wo_weights_mb",
    "int8wo_fp32_weights_mb",
}  # fmt: skip


def test_drift_is_the_mean_over_every_token(tmp_path):
    folder = model_make("llama", tmp_path)
    prompts = [prompt_make(length, length) for length in (200, 37, 90)]
    found = drift_measure(folder, INT8, prompts)
    named = {str(index): prompt for index, prompt in enumerate(prompts)}
    plain, ours = (
        torch.cat(list(forced_logits(engine_parts(folder, tmp_path, weights=form), named).values()))
        for form in (CHECKPOINT, INT8)
    )
    divergence = torch.nn.functional.kl_div(
        ours.log_softmax(-1), plain.log_softmax(-1), log_target=True, reduction="batchmean"
    )
    assert found.tokens == 327
    assert found.kl_nats == pytest.approx(float(divergence), rel=1e-2)
    assert found.top1_flips == pytest.approx(
        float((plain.argmax(-1) != ours.argmax(-1)).float().mean()), abs=0.01
    )
    assert 0 < found.kl_nats < 0.05


def test_a_form_does_not_drift_from_itself(tmp_path):
    drift = drift_measure(model_make("llama", tmp_path), CHECKPOINT, [prompt_make(40, 1)])
    assert drift.kl_nats == 0
    assert drift.top1_flips == 0


def test_the_starter_model_keeps_its_predictions():
    prompts = starter_prompts(SPARK_PATH, 300)
    assert sum(map(len, prompts)) >= 300
    drift = drift_measure(SPARK_PATH, INT8, prompts)
    assert drift.kl_nats < 2e-3
    assert drift.top1_flips < 0.03


def test_the_starter_model_keeps_its_predictions_with_keys_and_values_in_e4m3():
    drift = drift_measure(SPARK_PATH, KV_FP8, starter_prompts(SPARK_PATH, 300))
    assert 1e-5 < drift.kl_nats < 5e-3
    assert drift.top1_flips < 0.03


def test_the_starter_model_hardly_feels_fp16():
    drift = drift_measure(SPARK_PATH, HALF, starter_prompts(SPARK_PATH, 300))
    assert 0 < drift.kl_nats < 1e-5
    assert drift.top1_flips == 0


def test_kept_bytes_count_what_is_packed_and_a_tied_table_once(tmp_path):
    folder = model_make("llama", tmp_path, vocab_size=1024)
    tensors = load_file(folder / "model.safetensors")
    matrices = sum(tensor.numel() for tensor in tensors.values() if tensor.dim() == 2)
    form = weight_form(HALF, torch.device("cpu"))
    model = model_load(folder, device=torch.device("cpu"), dtype=torch.float32, form=form)
    assert 0 <= kept_bytes(model) - 2 * matrices <= 64 * 1024


def test_kept_bytes_count_packed_weights_and_shared_ones_once(tmp_path):
    # Large enough to be packed.
    folder = model_make("llama", tmp_path, hidden_size=256, intermediate_size=1024, vocab_size=1024)
    tensors = load_file(folder / "model.safetensors")
    model = model_load(folder, device=torch.device("cpu"), dtype=torch.float32)
    whole = sum(tensor.nbytes for tensor in tensors.values())
    assert whole <= kept_bytes(model, model) <= whole + 64 * 1024


class FixedWorker:
    """A worker of a known speed by mode."""

    kind = "ours"

    def __init__(self) -> None:
        self.facts = {"weights_bytes": 4e6, "kv_bytes": 8e6}
        self.ran: list[tuple[str, str, int]] = []

    def ask(self, operation, *, mode):
        assert operation == "facts"
        return {"weights_bytes": 1e6 if mode == INT8 else 4e6, "kv_bytes": 2e6 if mode == KV_FP8 else 8e6}

    def run(self, load, *, vocab_size, seed, threads, mode) -> Run:
        self.ran.append((mode, load.name, seed))
        return Run(load.tokens_out / (60 if mode == INT8 else 40), load.tokens_out)


def test_every_figure_is_there_and_both_forms_answer_the_same_prompts(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "_STARTER_TOKENS", 100)
    worker = FixedWorker()
    values = forms.form_measure(
        INT8,
        Entrant(worker, "", 1),
        model_make("llama", tmp_path),
        (W1, W2),
        vocab_size=VOCAB,
        pairs=2,
        tokens=128,
        seeds=count(1),
    )
    assert set(values) == FIGURES
    assert values["int8wo_w1_tok_s"] == pytest.approx(60)
    assert values["int8wo_vs_fp32_w2"] == pytest.approx(1.5)
    assert values["int8wo_fp32_weights_mb"] == pytest.approx(4 * values["int8wo_weights_mb"])
    plain, small = ([run[1:] for run in worker.ran if run[0] == mode] for mode in ("", INT8))
    assert [name for name, _ in plain] == ["w1", "w1", "w2", "w2"]
    assert small[1:] == plain


def test_keys_and_values_have_the_figures_of_a_form_and_their_own_size(tmp_path, monkeypatch):
    monkeypatch.setattr(forms, "_STARTER_TOKENS", 100)
    values = forms.form_measure(
        KV_FP8,
        Entrant(FixedWorker(), "", 1),
        model_make("llama", tmp_path),
        (W1,),
        vocab_size=VOCAB,
        pairs=1,
        tokens=128,
        seeds=count(1),
    )
    assert (values["kv_fp8_kv_mb"], values["kv_fp8_fp32_kv_mb"]) == (2.0, 8.0)
    assert values.keys() >= {"kv_fp8_w1_tok_s", "kv_fp8_vs_fp32_w1", "kv_fp8_top1_flips"}
    assert values["kv_fp8_kl_nats"] > 0 and values["kv_fp8_spark_kl_nats"] > 0
