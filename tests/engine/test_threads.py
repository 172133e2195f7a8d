"""How many threads: measured when nothing else is said, an explicit number otherwise."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from kindling_engine.core.options import options_parse
from kindling_engine.core.threads import threads_settle
from kindling_engine.protocol.control_groups import ControlGroups
from kindling_engine.runner.threads import (
    cores_allowed,
    thread_candidates,
    threads_choose,
    undisturbed_s,
)
from kindling_engine.server.core_process import core_start
from kindling_engine.server.options import core_arguments, serve_options_parse
from kindling_parity import engine_parts
from kindling_tiny_encoders import encoder_make
from kindling_tiny_models import model_make

SERVE = ["--model", "m", "--model-ref", "r", "--usage-log", "u", "--blobs", "b", "--replica", "r"]


@pytest.fixture(autouse=True)
def one_thread_afterwards():
    yield
    torch.set_num_threads(1)


class Machine:
    """A step and a clock that it moves: ``cost_s`` by number of threads; the first run of each number pays ``first_s``
    more, the very first ``once_s``, and those until ``busy_s`` take twice as long.
    """

    def __init__(
        self, cost_s: dict[int, float], *, first_s: float = 0.0, once_s: float = 0.0, busy_s: float = 0.0
    ) -> None:
        self.cost_s, self.first_s, self.once_s, self.busy_s = cost_s, first_s, once_s, busy_s
        self.now_s = 0.0
        self.ran: list[int] = []

    def step(self) -> None:
        threads = torch.get_num_threads()
        self.now_s += self.cost_s[threads] * (2 if self.now_s < self.busy_s else 1)
        self.now_s += (0.0 if threads in self.ran else self.first_s) + (0.0 if self.ran else self.once_s)
        self.ran.append(threads)

    def choose(self) -> int:
        return threads_choose(self.step, self.cost_s, timed=self.timed)

    def timed(self, step) -> float:
        began_s = self.now_s
        step()
        return self.now_s - began_s


def test_the_fastest_number_is_taken_and_set():
    assert Machine({1: 0.08, 2: 0.045, 4: 0.03, 6: 0.04}).choose() == 4
    assert torch.get_num_threads() == 4


def test_of_near_equals_the_fewest_are_taken():
    assert Machine({1: 0.0312, 2: 0.0303, 4: 0.03}).choose() == 1
    assert Machine({1: 0.05, 2: 0.0303, 4: 0.03}).choose() == 2


def test_what_a_first_run_pays_does_not_count():
    assert Machine({1: 0.04, 2: 0.03}, first_s=0.3).choose() == 2
    assert Machine({1: 0.7, 2: 0.5}, once_s=2.0).choose() == 2


def test_a_neighbours_burst_does_not_decide():
    # It is over when each has been timed once: the first of them alone would have looked slow.
    assert Machine({1: 0.13, 2: 0.1, 4: 0.08}, busy_s=0.4).choose() == 4


def test_of_a_long_step_hopeless_numbers_are_not_run_again_or_at_all():
    machine = Machine({1: 32.0, 2: 16.0, 4: 8.0, 8: 4.0, 16: 2.2})
    assert machine.choose() == 16
    assert machine.ran == [16, 16, 8]


def test_candidates_are_powers_of_two_and_all_cores():
    assert thread_candidates(1) == [1]
    assert thread_candidates(6) == [1, 2, 4, 6]


def test_cores_are_those_of_the_process_and_fewer_if_the_user_says_so(monkeypatch):
    monkeypatch.setattr(ControlGroups, "cores", lambda self: 4)
    assert cores_allowed({}) == 4
    assert cores_allowed({"OMP_NUM_THREADS": "3"}) == 3
    assert cores_allowed({"OMP_NUM_THREADS": "2,1"}) == 2
    assert cores_allowed({"OMP_NUM_THREADS": "64"}) == 4
    assert cores_allowed({"OMP_NUM_THREADS": "none"}) == 4


@pytest.mark.parametrize(
    "make", [lambda path: model_make("llama", path), lambda path: encoder_make("bert", path)]
)
def test_a_model_is_timed_with_short_requests_and_left_idle(tmp_path, make):
    parts = engine_parts(make(tmp_path), tmp_path, kv_tokens=512)

    def timed(step) -> float:
        step()
        return 1.0 / torch.get_num_threads()

    chosen = threads_settle(parts.scheduler, parts.runner, parts.config, parts.device, cores=2, timed=timed)
    assert chosen == 2 == torch.get_num_threads()
    assert not parts.scheduler.has_work
    assert parts.kv.pool.free_count == parts.kv.pool.capacity


def test_a_model_that_computes_nothing_is_no_measure(tmp_path):
    parts = engine_parts(model_make("llama", tmp_path), tmp_path, kv_tokens=512)

    class Broken:
        def execute(self, plan):
            raise RuntimeError("no")

        def recover(self, plan):
            pass

    with pytest.raises(RuntimeError, match="warm-up"):
        threads_settle(parts.scheduler, Broken(), parts.config, parts.device, cores=2)


def test_one_core_and_a_gpu_need_no_measure(tmp_path):
    parts = engine_parts(model_make("llama", tmp_path), tmp_path, kv_tokens=512)
    torch.set_num_threads(2)
    assert threads_settle(parts.scheduler, None, parts.config, parts.device, cores=1) == 1
    assert threads_settle(parts.scheduler, None, parts.config, torch.device("cuda"), cores=8) == 1
    assert torch.get_num_threads() == 1


def test_an_explicit_number_holds(tmp_path):
    engine_parts(model_make("llama", tmp_path), tmp_path, kv_tokens=512, threads=2)
    assert torch.get_num_threads() == 2


def test_nothing_said_means_measure_down_to_the_core(tmp_path):
    options = serve_options_parse(SERVE)
    assert options.threads == 0
    assert options_parse(core_arguments(options, Path("s"))).threads == 0
    said = serve_options_parse([*SERVE, "--threads", "3"])
    assert options_parse(core_arguments(said, Path("s"))).threads == 3
    with pytest.raises(SystemExit):
        serve_options_parse([*SERVE, "--threads", "-1"])


@pytest.mark.parametrize(("threads", "seen"), [(0, "5"), (2, "2")])
async def test_a_core_starts_with_room_to_choose(tmp_path, monkeypatch, threads, seen):
    """OpenMP reads its limit when torch is imported; with nothing said, the user's own remains."""
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    note = tmp_path / "note"
    script = f"import os; open({str(note)!r}, 'w').write(os.environ['OMP_NUM_THREADS'])"
    options = serve_options_parse([*SERVE, "--threads", str(threads)])
    core = await core_start(options, (sys.executable, "-c", script))
    await core.process.wait()
    await core.end()
    assert note.read_text() == seen


def test_what_a_step_waits_for_a_core_does_not_count():
    """On one core beside a process that wants it, a step's time is that of its own work."""
    cores = os.sched_getaffinity(0)
    torch.set_num_threads(1)

    def step() -> None:
        until_s = time.thread_time() + 0.1
        while time.thread_time() < until_s:
            pass

    program = "print('busy', flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as busy:
        try:
            one = {min(cores)}
            os.sched_setaffinity(0, one)
            os.sched_setaffinity(busy.pid, one)
            assert busy.stdout and busy.stdout.readline()
            began_s = time.perf_counter()
            undisturbed = undisturbed_s(step)
            by_the_clock_s = time.perf_counter() - began_s
        finally:
            os.sched_setaffinity(0, cores)
            busy.kill()
    assert 0.09 < undisturbed < 0.9 * by_the_clock_s


def test_a_step_that_sleeps_takes_its_time():
    assert undisturbed_s(lambda: time.sleep(0.05)) >= 0.049
