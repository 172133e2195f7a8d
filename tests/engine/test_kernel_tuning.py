"""A configuration of a kernel wins by its speed if its numbers are right; what won is kept for other starts."""

import json
from pathlib import Path

import pytest
import torch

from kindling_engine.core.options import options_parse
from kindling_engine.kernels.choice_book import ChoiceBook, Stamp
from kindling_engine.kernels.tune import Bout, Trial, Tuned, tune
from kindling_engine.kernels.tuning import Choice, Config, Tuner, TuningError, error_of, fastest, size_class
from kindling_engine.server.options import core_arguments, serve_options_parse

RIGHT = torch.tensor([1.0, -2.0, 4.0])
US = {16: 5.0, 32: 3.0, 64: 1.0, 128: 0.5}
CONFIGS = tuple(Config({"BLOCK": size}) for size in US)
STAMP = Stamp("NVIDIA H200", "3.7.1", "5afe")
KEY = ("a kernel", 128, torch.bfloat16)


def _launch(config: Config) -> torch.Tensor:
    size = config.tiles["BLOCK"]
    if size == 64:
        return RIGHT + 1.0
    if size == 128:
        raise RuntimeError("too much shared memory")
    return RIGHT + 1e-4


def _fastest(*sizes: int, **others) -> Choice:
    configs = [Config({"BLOCK": size}) for size in sizes]
    return fastest(
        "a kernel",
        configs,
        _launch,
        reference=RIGHT,
        tolerance=1e-3,
        time_us=lambda c: US[c.tiles["BLOCK"]],
        **others,
    )


def test_the_fastest_wins_that_runs_and_computes_the_right_numbers():
    assert _fastest(16, 32, 64, 128) == Choice(Config({"BLOCK": 32}), 3.0)


def test_without_a_right_one_the_kernel_is_refused():
    with pytest.raises(TuningError, match="a kernel"):
        _fastest(64, 128)


def test_out_of_time_the_best_of_those_tried_wins_and_one_is_always_tried():
    assert _fastest(64, 16, 32, in_time=lambda: False) == Choice(Config({"BLOCK": 16}), 5.0, whole=False)


def test_one_that_cannot_be_timed_is_left_out_like_one_that_cannot_run():
    def time_us(config: Config) -> float:
        if config.tiles["BLOCK"] == 16:
            raise RuntimeError("out of memory")
        return 1.0

    found = fastest("a kernel", CONFIGS, _launch, reference=RIGHT, tolerance=1e-3, time_us=time_us)
    assert found.config.tiles == {"BLOCK": 32}


def test_numbers_that_are_not_finite_are_wrong_however_small_the_others_err():
    assert error_of(torch.tensor([1.0, float("nan"), 4.0]), RIGHT) == float("inf")
    assert error_of(RIGHT + 0.04, RIGHT) == pytest.approx(0.01, rel=1e-3)
    assert error_of(torch.zeros(3), torch.zeros(3)) == 0.0


def test_steps_share_a_choice_by_how_many_rows_they_have():
    assert [size_class(rows) for rows in (1, 4, 5, 32, 33, 256, 257, 100_000)] == [
        4,
        4,
        32,
        32,
        256,
        256,
        2048,
        2048,
    ]


class FakeClock:
    """Launches take as long as US says; each timing takes a second of ``now_s``."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timed = 0

    def now(self) -> float:
        return self.now_s

    def us(self, launches) -> float:
        self.now_s += 1.0
        self.timed += 1
        return float(launches[0]())


def _trial(key=KEY, configs=CONFIGS, factors=(1.0,)) -> Trial:
    """``factors``: how much longer a launch takes in each load."""
    loads = tuple(((lambda config, f=factor: f * US[config.tiles["BLOCK"]]),) for factor in factors)
    return Trial(key, configs, lambda: Bout(_launch, RIGHT, loads), 1e-3)


def _tune(folder: Path, *trials: Trial, stamp=STAMP, clock=None, limit_s=60.0, measures=True):
    tuner, clock = Tuner(), clock or FakeClock()
    tuned = tune(
        trials,
        tuner,
        ChoiceBook(folder, stamp),
        clock=clock if measures else None,
        limit_s=limit_s,
        now=clock.now,
    )
    return tuner, tuned, clock


def test_a_limit_of_registers_is_kept_apart_from_none(tmp_path):
    free, limited = Config({"BLOCK": 32}), Config({"BLOCK": 32}, registers=128)
    assert limited.arguments() == {**free.arguments(), "maxnreg": 128}
    ChoiceBook(tmp_path, STAMP).keep(KEY, Choice(limited, 2.0))
    assert ChoiceBook(tmp_path, STAMP).find(KEY, (free, limited)) is limited


def test_the_choice_runs_and_is_read_at_the_next_start(tmp_path):
    tuner, tuned, _ = _tune(tmp_path, _trial())
    assert tuner.chosen(KEY, CONFIGS) == Config({"BLOCK": 32}) and tuned == Tuned(measured=1)
    assert tuner.chosen(("another",), CONFIGS) == CONFIGS[0]
    again, tuned, clock = _tune(tmp_path, _trial())
    assert again.chosen(KEY, CONFIGS) == Config({"BLOCK": 32})
    assert tuned == Tuned(read=1) and clock.timed == 0


def test_what_is_kept_is_enough_for_a_start_that_may_not_measure(tmp_path):
    other = ("another kernel",)
    _tune(tmp_path, _trial())
    tuner, tuned, _ = _tune(tmp_path, _trial(), _trial(other), measures=False)
    assert tuned == Tuned(read=1, left=1)
    assert tuner.chosen(KEY, CONFIGS) == Config({"BLOCK": 32}) and tuner.chosen(other, CONFIGS) == CONFIGS[0]


@pytest.mark.parametrize(
    "stamp",
    [
        Stamp("NVIDIA H100", "3.7.1", "5afe"),
        Stamp("NVIDIA H200", "3.8.0", "5afe"),
        Stamp("NVIDIA H200", "3.7.1", "0dd"),
    ],
)
def test_choices_of_another_device_triton_or_source_do_not_count(tmp_path, stamp):
    _tune(tmp_path, _trial())
    assert _tune(tmp_path, _trial(), stamp=stamp)[1] == Tuned(measured=1)
    # Each device has a file of its own; of another Triton or source there is no more than one.
    assert len(list(tmp_path.iterdir())) == (2 if stamp.device != STAMP.device else 1)


def test_a_choice_that_is_no_configuration_any_more_is_made_anew(tmp_path):
    _tune(tmp_path, _trial())
    tuner, tuned, _ = _tune(tmp_path, _trial(configs=CONFIGS[:1]))
    assert tuned == Tuned(measured=1) and tuner.chosen(KEY, CONFIGS) == CONFIGS[0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"choices": 3}',
        '{"device": "NVIDIA H200"}',
        "\x00\x01",
        '{"choices": {"a kernel": 7}}',
    ],
)
def test_a_file_that_cannot_be_read_is_ignored_with_one_line(tmp_path, content, caplog):
    (tmp_path / "nvidia-h200.json").write_text(content)
    with caplog.at_level("INFO"):
        book = ChoiceBook(tmp_path, STAMP)
    assert len(caplog.records) == 1 and "ignored" in caplog.text
    assert book.find(KEY, CONFIGS) is None
    assert _tune(tmp_path, _trial())[1] == Tuned(measured=1)
    assert _tune(tmp_path, _trial())[1] == Tuned(read=1)


def test_a_choice_of_another_form_is_made_anew(tmp_path):
    _tune(tmp_path, _trial())
    path = tmp_path / "nvidia-h200.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "choices": dict.fromkeys(kept["choices"], "fast")}))
    assert _tune(tmp_path, _trial())[1] == Tuned(measured=1)


def test_where_nothing_can_be_kept_the_choice_still_runs(tmp_path):
    (tmp_path / "tuned").write_text("a file where the folder should be")
    tuner, tuned, _ = _tune(tmp_path / "tuned", _trial())
    assert tuned == Tuned(measured=1) and tuner.chosen(KEY, CONFIGS) == Config({"BLOCK": 32})


def test_two_processes_keep_each_others_choices(tmp_path):
    first, second = ChoiceBook(tmp_path, STAMP), ChoiceBook(tmp_path, STAMP)
    first.keep(("one",), Choice(CONFIGS[0], 1.0))
    second.keep(("two",), Choice(CONFIGS[1], 2.0))
    third = ChoiceBook(tmp_path, STAMP)
    assert third.find(("one",), CONFIGS) == CONFIGS[0] and third.find(("two",), CONFIGS) == CONFIGS[1]


def test_the_bound_is_kept_and_later_starts_go_on(tmp_path):
    trials = [_trial(("kernel", index), CONFIGS[:2]) for index in range(4)]
    # Two configurations of a second each: the third trial is cut short, the fourth is not begun.
    tuner, tuned, clock = _tune(tmp_path, *trials, limit_s=5.0)
    assert tuned == Tuned(measured=2, left=2) and clock.now_s == 5.0
    assert [tuner.chosen(trial.key, CONFIGS).tiles["BLOCK"] for trial in trials] == [32, 32, 16, 16]
    tuner, tuned, clock = _tune(tmp_path, *trials, limit_s=5.0)
    assert tuned == Tuned(read=2, measured=2) and clock.now_s == 4.0
    assert {tuner.chosen(trial.key, CONFIGS).tiles["BLOCK"] for trial in trials} == {32}


def test_a_trial_that_fails_is_named_and_stops_no_other(tmp_path, caplog):
    def make() -> Bout:
        raise torch.OutOfMemoryError("no room for inputs")

    wrong = _trial(("a wrong kernel",), CONFIGS[2:])
    tuner, tuned, _ = _tune(tmp_path, Trial(("a large kernel",), CONFIGS, make, 1e-3), wrong, _trial())
    assert tuned == Tuned(measured=1, failed=2)
    assert "a large kernel: not tuned" in caplog.text and "a wrong kernel: not tuned" in caplog.text
    assert tuner.chosen(("a large kernel",), CONFIGS) == CONFIGS[0]


def test_the_front_hands_on_what_a_start_may_do(tmp_path):
    places = [f"--{name}={tmp_path}" for name in ("model", "usage-log", "blobs")]
    told = ["--tune", "cached", "--tuned", str(tmp_path / "tuned"), "--tune-limit-s", "7.5"]
    named = ["--model-ref", "tiny", "--replica", "r"]
    for arguments, expected in ((told, ("cached", tmp_path / "tuned", 7.5)), ([], ("full", None, 60.0))):
        options = serve_options_parse([*places, *named, *arguments])
        core = options_parse(core_arguments(options, tmp_path / "socket"))
        assert (core.tune, core.tuned, core.tune_limit_s) == expected
    for wrong in (["--tune", "some"], ["--tune-limit-s", "-1"], ["--tune-limit-s", "nan"]):
        with pytest.raises(SystemExit):
            serve_options_parse([*places, *named, *wrong])


def test_no_load_drowns_the_others(tmp_path):
    quick, steady = Config({"BLOCK": 16}), Config({"BLOCK": 32})
    us = {(quick, 0): 1.0, (quick, 1): 120.0, (steady, 0): 4.0, (steady, 1): 100.0}
    loads = tuple(((lambda config, load=load: us[config, load]),) for load in range(2))
    trial = Trial(KEY, (steady, quick), lambda: Bout(_launch, RIGHT, loads), 1e-3)
    # 121 µs against 104 in sum, but a quarter of the time in one load and a fifth more in the other.
    assert _tune(tmp_path, trial)[0].chosen(KEY, CONFIGS) == quick
