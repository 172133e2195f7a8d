"""What a start compares configurations on: each trial runs and is right, and no choice that steps ask for lacks one."""

import math

import pytest
import torch

from kindling_core_rig import rig_make
from kindling_engine.kernels import moe, tuning
from kindling_engine.kernels.choice_book import ChoiceBook, stamp_of
from kindling_engine.kernels.paged_inputs import Shape, paged_inputs
from kindling_engine.kernels.trials_attention import decode_trial, prefill_trial
from kindling_engine.kernels.trials_experts import experts_trial
from kindling_engine.kernels.trials_lora import expand_trial, shrink_trial
from kindling_engine.kernels.trials_rows import gate_trial, norm_trial, quantise_trial, rope_trial
from kindling_engine.kernels.tune import Trial, Tuned, tune
from kindling_engine.kernels.tuning import Choice, Config, Tuner, error_of
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_engine.layers.rotary_scaling import RotaryConfig
from kindling_engine.lora.slab_layout import SiteShape
from kindling_engine.protocol.tune_modes import CACHED, FULL, OFF
from kindling_engine.runner.trials import decoder_trials
from kindling_engine.runner.tuning import Tuning, decoder_tune
from kindling_on_kernels import kernels_everywhere
from kindling_tiny_models import model_make

HEADS = Shape(2, 1, 32)
SITE = SiteShape(64, 0, (32, 16, 16))
DTYPE = torch.float32


class _NoBook:
    """Keeps nothing."""

    def find(self, key, configs):
        return None

    def keep(self, key, choice):
        pass


class _LastWins:
    """Runs what it is to time once, and finds each quicker than the one before."""

    def __init__(self) -> None:
        self.us_next = 1000.0

    def us(self, launches) -> float:
        launches[0]()
        self.us_next -= 1.0
        return self.us_next


def _randn(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(len(size)))


def _trials(device) -> dict[str, Trial]:
    attention = {"dtype": DTYPE, "page_dtype": DTYPE, "device": device}
    made = {"dtype": DTYPE, "device": device}
    rotary = RotaryConfig(theta=1e4, dim=32)
    gate_up, down = _randn(4, 48, 40).to(device), _randn(4, 40, 24).to(device)
    biases = _randn(4, 48).to(device), _randn(4, 40).to(device)
    return {
        "decode": decode_trial(
            HEADS,
            AttentionSpec(0.2),
            requests=2,
            max_splits=2,
            max_length=70,
            budget_bytes=1 << 17,
            contexts=(40, 500),
            **attention,
        ),
        "decode uncut": decode_trial(
            HEADS,
            AttentionSpec(0.2, 20),
            requests=1,
            max_splits=1,
            max_length=40,
            budget_bytes=1 << 15,
            **attention,
        ),
        "prefill": prefill_trial(
            HEADS,
            AttentionSpec(0.2),
            max_length=90,
            prompts=((70, 70), (64, 90)),
            checked=(66, 80),
            **attention,
        ),
        "norm": norm_trial(2, 64, adds=False, weight_dtype=DTYPE, **made),
        "norm of a sum": norm_trial(2, 64, adds=True, weight_dtype=DTYPE, **made),
        "gate": gate_trial(2, 48, "silu", **made),
        "quantise": quantise_trial(2, 64, **made),
        "rotation": rope_trial(
            2, heads=4, kv_heads=2, head_dim=32, rotary=rotary, normed=True, page_dtype=DTYPE, **made
        ),
        "no rotation": rope_trial(
            2, heads=4, kv_heads=2, head_dim=32, rotary=None, normed=False, page_dtype=DTYPE, **made
        ),
        "shrink": shrink_trial(SITE, ((4, 2, 4), (4, 4, 8)), **made),
        "expand": expand_trial(SITE, ((4, 2, 4),), **made),
        "experts": experts_trial(3, gate_up, down, kind="silu", top_k=2, normalised=True),
        "experts with biases": experts_trial(
            3, gate_up, down, kind="clamped_swiglu", top_k=2, normalised=True, biases=biases
        ),
    }


@pytest.mark.parametrize("name", sorted(_trials(torch.device("cpu"))))
def test_a_trial_finds_its_configurations_right_and_makes_its_choice(device, name, monkeypatch):
    # One set of inputs for each load: an interpreter has no cache to get past.
    for module in ("trials_attention", "trials_rows"):
        monkeypatch.setattr(f"kindling_engine.kernels.{module}.copies_for", lambda moved: 2)
    monkeypatch.setattr("kindling_engine.kernels.trials_lora._SETS", 1)
    trial, tuner = _trials(device)[name], Tuner()
    tuned = tune([trial], tuner, _NoBook(), clock=_LastWins(), limit_s=math.inf)
    assert tuned == Tuned(measured=1)
    assert tuner.chosen(trial.key, trial.configs) == trial.configs[-1]


def test_the_choice_of_a_key_is_what_a_launch_runs_with(device, monkeypatch):
    x, scores = _randn(3, 40).to(device), _randn(3, 4).to(device)
    gate_up, down = _randn(4, 48, 40).to(device), _randn(4, 40, 24).to(device)
    said = {"kind": "silu", "top_k": 2, "normalised": True}
    trial = experts_trial(3, gate_up, down, **said)
    other = trial.configs[2]
    assert other.tiles["BLOCK_M"] != trial.configs[0].tiles["BLOCK_M"]
    blocks: list[int] = []
    tiles_make = moe.tiles_make
    monkeypatch.setattr(
        moe, "tiles_make", lambda routing, block: (blocks.append(block), tiles_make(routing, block))[1]
    )
    expected = moe.sparse_mlp(x, scores, gate_up, down, **said)
    tuner = Tuner()
    tuner.adopt(trial.key, other)
    monkeypatch.setattr(moe, "TUNER", tuner)
    assert error_of(moe.sparse_mlp(x, scores, gate_up, down, **said), expected) < 1e-5
    assert blocks == [trial.configs[0].tiles["BLOCK_M"], other.tiles["BLOCK_M"]]


def test_shares_of_requests_have_the_pages_in_common(device):
    one = paged_inputs(
        HEADS, requests=4, q_len=2, length=20, dtype=DTYPE, page_dtype=DTYPE, device=device, seed=0
    )
    first, second = one.parts(2)
    assert first.requests == 2 and first.query.shape[0] == 4 and first.starts.tolist() == [0, 2, 4]
    assert first.key_pages.data_ptr() == second.key_pages.data_ptr() == one.key_pages.data_ptr()
    assert torch.equal(torch.cat([first.tables, second.tables]), one.tables)
    assert torch.equal(torch.cat([first.query, second.query]), one.query)


@pytest.mark.parametrize(("name", "layers"), [("gemma2", 1), ("qwen3-moe", 2)])
def test_every_choice_that_steps_ask_for_is_among_the_trials(device, tmp_path, monkeypatch, name, layers):
    if device.type != "cpu":
        pytest.skip("on a GPU tests/engine/test_core_cuda.py reads what a start has chosen")
    kernels_everywhere(monkeypatch)
    folder = model_make(name, tmp_path / "model", num_hidden_layers=layers, vocab_size=64)
    asked: set[tuning.Key] = set()
    chosen = Tuner.chosen

    def watched(tuner: Tuner, key: tuning.Key, configs: tuple[Config, ...]) -> Config:
        asked.add(key)
        return chosen(tuner, key, configs)

    monkeypatch.setattr(Tuner, "chosen", watched)
    rig = rig_make(folder, tmp_path, max_batch=2, step_tokens=128, kv_tokens=512)
    # As few tokens as fill a tile of 128 rows with the heads of a group, and make a step of more rows than 32.
    rig.submit("a", list(range(3, 36)), max_tokens=2)
    rig.run_until("a")
    parts = rig.core._parts
    trials = decoder_trials(
        parts.runner._model,
        page_dtype=DTYPE,
        max_batch=2,
        max_length=parts.scheduler.max_length,
        slabs=None,
        budget_bytes=1 << 20,
    )
    known = {trial.key for trial in trials}
    names = {key[0] for key in asked}
    assert names >= {"paged_decode", "paged_prefill", "rms_norm", "gate", "rope_kv"}
    assert ("sparse_mlp" in names) == (name == "qwen3-moe")
    assert asked - known == set()


def test_a_start_reads_what_is_kept_and_leaves_what_there_is_no_time_for(
    device, tmp_path, monkeypatch, caplog
):
    if device.type != "cpu":
        pytest.skip("on a GPU tests/engine/test_core_cuda.py starts with real measurements")
    kernels_everywhere(monkeypatch)
    folder = model_make("qwen3-moe", tmp_path / "model", num_hidden_layers=2, vocab_size=64)
    parts = rig_make(folder, tmp_path, max_batch=2, kv_tokens=256).core._parts
    said = {"page_dtype": DTYPE, "max_batch": 2, "max_length": parts.scheduler.max_length, "slabs": None}
    model = parts.runner._model
    trials = list(decoder_trials(model, **said, budget_bytes=1 << 20))
    assert len({trial.key for trial in trials}) == len(trials)
    first = trials[0]
    ChoiceBook(tmp_path / "tuned", stamp_of(device)).keep(first.key, Choice(first.configs[-1], 1.0))
    tuner = Tuner()
    monkeypatch.setattr(tuning, "TUNER", tuner)
    with caplog.at_level("INFO"):
        for mode in (OFF, CACHED, FULL):
            decoder_tune(model, **said, tuning=Tuning(mode, tmp_path / "tuned", limit_s=0.0))
    counts = f"1 read, 0 measured, {len(trials) - 1} left for another start, 0 failed"
    assert [counts in record.message for record in caplog.records] == [True, True]
    assert tuner.chosen(first.key, first.configs) == first.configs[-1] != first.configs[0]
