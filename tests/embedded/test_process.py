"""Children of the supervisor: tied to it, started again with a growing pause, stopped for certain."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.process import Backoff, Child, Command


def child(tmp_path: Path, program: str, **settings: object) -> Child:
    command = Command(
        name="test",
        argv=(sys.executable, "-c", program),
        env=dict(os.environ),
        log_path=tmp_path / "child.log",
        **settings,  # type: ignore[arg-type]
    )
    return Child(command)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    running = child(tmp_path, "import signal; signal.pause()")
    running.start()
    yield running
    running.kill()


def test_first_death_costs_no_wait_and_later_ones_double_it():
    backoff = Backoff(first_s=0.5, most_s=3)
    assert [backoff.next_delay_s(0.1) for _ in range(6)] == [0, 0.5, 1, 2, 3, 3]


def test_long_life_is_forgiven():
    backoff = Backoff(first_s=0.5, forgiven_after_s=20)
    for _ in range(4):
        backoff.next_delay_s(1)
    assert backoff.next_delay_s(25) == 0


def test_living_child_is_left_alone(sleeper: Child):
    pid = sleeper.pid
    assert not sleeper.tend()
    assert sleeper.pid == pid and sleeper.restarts == 0


def test_killed_child_is_started_again_at_once(sleeper: Child):
    pid = sleeper.pid
    assert pid is not None and sleeper.process is not None
    os.kill(pid, signal.SIGKILL)
    sleeper.process.wait()
    assert sleeper.tend()
    assert sleeper.is_alive() and sleeper.pid != pid and sleeper.restarts == 1


def test_child_that_cannot_be_started_now_is_started_later(tmp_path: Path):
    folder = tmp_path / "logs"
    folder.mkdir()
    running = child(folder, "import signal; signal.pause()")
    running.start()
    try:
        running.kill()
        away = folder.rename(tmp_path / "away")
        folder.write_text("where the log's folder was")
        assert not running.tend()
        folder.unlink()
        away.rename(folder)
        deadline = time.monotonic() + 60
        while not running.tend():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert running.is_alive()
    finally:
        running.kill()


def test_child_that_keeps_dying_is_not_started_in_a_circle(tmp_path: Path):
    hopeless = child(tmp_path, "raise SystemExit('no')")
    hopeless.start()
    began = time.monotonic()
    # Where a start takes long there are few in a second, and the bound from below takes as long as it takes.
    while (passed := time.monotonic() - began) < 1 or (hopeless.restarts < 2 and passed < 60):
        hopeless.tend()
        time.sleep(0.005)
    hopeless.kill()
    assert 2 <= hopeless.restarts <= 5
    assert log_tail(tmp_path / "child.log", 1) == "no"


def test_deaf_child_is_killed_after_its_time(tmp_path: Path):
    program = (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', flush=True); signal.pause()"
    )
    deaf = child(tmp_path, program, stop_timeout_s=0.2)
    deaf.start()
    deadline = time.monotonic() + 60
    while log_tail(tmp_path / "child.log") != "deaf" and time.monotonic() < deadline:
        time.sleep(0.01)
    pid = deaf.pid
    deaf.stop()
    assert not Path(f"/proc/{pid}").exists()


def test_child_has_a_session_of_its_own(sleeper: Child):
    assert sleeper.pid is not None
    assert os.getsid(sleeper.pid) == sleeper.pid != os.getsid(0)


def test_tail_of_a_missing_log_is_empty(tmp_path: Path):
    assert log_tail(tmp_path / "none.log") == ""
