"""The adapter bench: its loads, its arithmetic and its picture, and its core with adapters for a moment."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from kindling_engine.bench.figures import Figures
from kindling_engine.bench.lora import HELD, Measured, setup_for
from kindling_engine.bench.lora_adapters import adapter_bytes, adapters_write
from kindling_engine.bench.lora_chart import lora_chart
from kindling_engine.bench.lora_figures import lora_figures
from kindling_engine.bench.lora_loads import spread, zipf
from kindling_engine.bench.lora_ours import LoraSubject
from kindling_engine.bench.paired import ratio_interval
from kindling_engine.bench.report import report_write
from kindling_engine.bench.run import Run
from kindling_engine.bench.shapes import SMALL, checkpoint_write
from kindling_engine.bench.workloads import Workload

KEYS = {
    "base_tok_s", "enabled_unused_overhead", "a8_vs_base", "a32_vs_base", "byte_floor_a32", "zipf_vs_one",
    "thrash_vs_nothrash", "thrash_ttft_ratio", "vs_peft32", "warm_swap_ms", "registered", "curve",
}  # fmt: skip
TINY = replace(
    SMALL.cut(1),
    hidden_size=64,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=64,
    vocab_size=256,
)


def _run(decode_tok_s: float, *, first_s: float = 1.0, tok_s: float = 100.0) -> Run:
    return Run(10.0, int(10 * tok_s), first_s=[first_s] * 4, decode_s=1.0, decode_tokens=int(decode_tok_s))


@pytest.fixture
def measured() -> Measured:
    runs = {
        "engine": [_run(1000)] * 3, "a0": [_run(990)] * 3, "a1": [_run(980)] * 3, "a8": [_run(970)] * 3,
        "a32": [_run(960)] * 3, "a128": [_run(900)] * 3, "roomy": [_run(1)] * 3,
        "thrash": [_run(1, first_s=2.5, tok_s=60)] * 3, "one": [_run(1)] * 3, "zipf": [_run(1, tok_s=95)] * 3,
        "ours32": [_run(1)] * 3, "peft32": [_run(1, tok_s=20)] * 3,
    }  # fmt: skip
    return Measured(runs, [(1.01, 1.0), (0.99, 1.0), (1.0, 1.0)], [0.02], [0.001, 0.003], 20.0, {})


def test_figures_are_what_the_runs_say(measured):
    setup = setup_for(quick=True, repeats=3, threads=1)
    values = lora_figures(setup, measured)
    assert values.keys() >= KEYS
    assert values["a32_vs_base"] == pytest.approx(960 / 990)
    step_s, read_s = 32 / 990, 32 * adapter_bytes(setup.shape) / 20e9
    assert values["byte_floor_a32"] == pytest.approx(step_s / (step_s + read_s))
    assert values["thrash_vs_nothrash"] == pytest.approx(0.6) and values["thrash_ttft_ratio"] == 2.5
    assert (values["zipf_vs_one"], values["vs_peft32"], values["warm_swap_ms"]) == (0.95, 5.0, 2.0)
    assert values["enabled_unused_low"] < 0 < values["enabled_unused_high"]
    assert values["fractions_hold"] == "yes"
    assert [point["adapters"] for point in values["curve"]] == [0, 8, 32, 128]
    slow = replace_runs(measured, "engine", 1100)
    assert lora_figures(setup, slow)["fractions_hold"].startswith("no")


def replace_runs(measured: Measured, name: str, decode_tok_s: float) -> Measured:
    return replace(measured, runs={**measured.runs, name: [_run(decode_tok_s)] * 3})


def test_the_report_has_a_row_for_each_point_and_a_picture(measured, tmp_path):
    values = lora_figures(setup_for(quick=True, repeats=3, threads=1), measured)
    report_write(Figures(values), "lora", "cpu", tmp_path)
    text = (tmp_path / "lora-cpu.md").read_text()
    assert "| 32 adapters | 960 tok/s" in text and "](lora-cpu.svg)" in text
    root = ElementTree.fromstring((tmp_path / "lora-cpu.svg").read_text())
    assert root.tag.endswith("svg") and lora_chart(values).count("<circle") == 4


def test_intervals():
    mean, low, high = ratio_interval([1.1, 0.9, 1.0, 1.0])
    assert low < 1 < high and 0.97 < mean < 1.01
    assert ratio_interval([2.0])[0] == pytest.approx(2.0)


def test_who_asks_for_which_adapter():
    work = Workload("x", 8, 0, 4, 4)
    assert spread(work, [], 0).adapters == ("",) * 8
    assert spread(work, ["a", "b"], 0).adapters == ("a", "b") * 4
    names = [f"n{index}" for index in range(500)]
    assert len(set(spread(work, names, 1).adapters)) == 8
    drawn = zipf(replace(work, requests=4000), names, 3, at_once=5).adapters
    assert drawn.count("n0") > 1.5 * drawn.count("n1") > 2 * drawn.count("n9")


def test_our_core_runs_a_load_and_tells_times(tmp_path: Path):
    checkpoint_write(TINY, tmp_path / "model")
    names = adapters_write(TINY, tmp_path / "adapters", 70)
    assert (tmp_path / "adapters" / names[66] / "adapter_model.safetensors").stat().st_nlink == 2
    subject = LoraSubject(
        tmp_path / "model",
        {"adapters": str(tmp_path / "adapters"), "device": "cpu", "threads": 1, "kv_tokens": 1024, "max_batch": 8,
         "step_tokens": 64, "lora_mib": 1},
    )  # fmt: skip
    assert subject.adapter_load(names[0]) > 0
    work = Workload("x", 12, 0, 6, 5)
    prompts = work.prompts(vocab_size=256, seed=1)
    run = subject.run(prompts, 5, threads=1, adapters=[*names[60:70], "", ""], at_once=6)
    assert run.tokens == 60 and len(run.first_s) == 12 and min(run.first_s) > 0
    assert subject.adapters_drop() > 0 and subject.adapters_drop() == 0
    with pytest.raises(RuntimeError, match="ended with error"):
        subject.run(prompts[:1], 5, threads=1, adapters=["nowhere"])


def test_memory_for_eight_holds_eight_and_not_ten():
    for quick in (True, False):
        setup = setup_for(quick=quick, repeats=1, threads=1)
        held = (setup.tight_mib << 20) / adapter_bytes(setup.shape)
        assert HELD < held < HELD + 2
