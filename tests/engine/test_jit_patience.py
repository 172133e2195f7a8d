"""Threads of a step watch for each other while nobody wants their cores, and sleep at once where somebody does."""

import pytest

from kindling_engine.jit.patience import WATCH_CYCLES, Patience, taken_away


class Machine:
    """Steps of ``step_s``; in each that watches, threads lose their cores ``taken_hz`` times a second."""

    def __init__(self, step_s: float) -> None:
        self.step_s, self.taken_hz = step_s, 0.0
        self.now_s, self.taken = 0.0, 0.0
        self.patience = Patience(lambda: int(self.taken), lambda: self.now_s)

    def watched(self, seconds: float) -> float:
        """The share of the time in which threads watched."""
        until_s, watched_s = self.now_s + seconds, 0.0
        while self.now_s < until_s:
            cycles = self.patience.begin()
            assert cycles in (0, WATCH_CYCLES)
            self.now_s += self.step_s
            # Those that sleep may lose their cores as well, and waste nothing.
            self.taken += self.step_s * (self.taken_hz if cycles else 1_000)
            self.patience.end()
            watched_s += self.step_s if cycles else 0.0
        return watched_s / seconds


@pytest.fixture(params=[0.0003, 0.02, 0.5])
def machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(request.param)


def test_on_a_machine_that_is_as_good_as_idle_every_step_watches(machine: Machine):
    machine.taken_hz = 35
    assert machine.watched(20) > 0.99


def test_what_happens_between_steps_is_not_theirs(machine: Machine):
    for _ in range(200):
        machine.taken += 10
        assert machine.patience.begin() == WATCH_CYCLES
        machine.now_s += machine.step_s
        machine.patience.end()


def test_where_cores_are_taken_away_threads_look_whether_they_still_are_and_sleep():
    for step_s, most in ((0.0003, 0.02), (0.02, 0.02), (0.5, 0.15)):
        machine = Machine(step_s)
        machine.taken_hz = 300
        machine.watched(20)
        assert 0 < machine.watched(100) <= most


def test_a_machine_that_is_idle_again_is_found_out(machine: Machine):
    machine.taken_hz = 300
    machine.watched(20)
    machine.taken_hz = 0
    machine.watched(5)
    assert machine.watched(20) > 0.99
    machine.taken_hz = 300
    # And forgiven: it begins anew with a short rest.
    machine.watched(0.1)
    machine.taken_hz = 0
    assert machine.watched(2) > 0.7


def test_the_system_counts_for_this_process():
    before = taken_away()
    assert taken_away() >= before >= 0
