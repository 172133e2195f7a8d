"""A configuration of a kernel wins by its speed, but only if its numbers are right."""

import pytest
import torch

from kindling_engine.kernels.tuning import Config, TuningError, error_of, fastest

RIGHT = torch.tensor([1.0, -2.0, 4.0])
US = {16: 5.0, 32: 3.0, 64: 1.0, 128: 0.5}


def _launch(config: Config) -> torch.Tensor:
    size = config.tiles["BLOCK"]
    if size == 64:
        return RIGHT + 1.0
    if size == 128:
        raise RuntimeError("too much shared memory")
    return RIGHT + 1e-4


def _fastest(*sizes: int) -> tuple[Config, float]:
    configs = [Config({"BLOCK": size}) for size in sizes]
    return fastest(
        "a kernel", configs, _launch, reference=RIGHT, tolerance=1e-3, time_us=lambda c: US[c.tiles["BLOCK"]]
    )


def test_the_fastest_wins_that_runs_and_computes_the_right_numbers():
    config, us = _fastest(16, 32, 64, 128)
    assert config == Config({"BLOCK": 32}) and us == 3.0


def test_without_a_right_one_the_kernel_is_refused():
    with pytest.raises(TuningError, match="a kernel"):
        _fastest(64, 128)


def test_numbers_that_are_not_finite_are_wrong_however_small_the_others_err():
    assert error_of(torch.tensor([1.0, float("nan"), 4.0]), RIGHT) == float("inf")
    assert error_of(RIGHT + 0.04, RIGHT) == pytest.approx(0.01, rel=1e-3)
    assert error_of(torch.zeros(3), torch.zeros(3)) == 0.0
