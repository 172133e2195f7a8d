"""What the doctor sees on a machine where nothing runs."""

import os
import socket
from pathlib import Path

import pytest

from kindling_platform.embedded.doctor import Finding, doctor_run
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock
from kindling_platform.embedded.secrets import secrets_ensure


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    secrets_ensure(made.secrets)
    return made


def finding(home: Home, check: str) -> Finding:
    return next(found for found in doctor_run(home) if found.check == check)


def test_fresh_folder_has_no_problem(home: Home, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("KINDLING_PORT", str(probe.getsockname()[1]))
    assert [found for found in doctor_run(home) if not found.good] == []
    assert finding(home, "stack").seen == "not running"


def test_folder_that_was_never_made_is_no_problem(tmp_path: Path):
    assert "not made yet" in finding(Home(tmp_path / "none"), "state folder").seen


def test_readable_secrets_are_a_problem_with_its_cure(home: Home):
    home.secrets.chmod(0o644)
    found = finding(home, "secrets")
    assert not found.good and f"chmod 600 {home.secrets}" in found.advice


def test_taken_port_is_a_problem_with_another_port(home: Home, monkeypatch: pytest.MonkeyPatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("KINDLING_PORT", str(port))
        found = finding(home, f"port {port}")
    assert not found.good and f"KINDLING_PORT={port + 1}" in found.advice


def test_supervisor_without_state_is_starting(home: Home):
    lock = HomeLock(home)
    lock.take()
    assert str(os.getpid()) in finding(home, "stack").seen
    lock.release()


def test_last_error_of_a_log_is_shown_without_secrets(home: Home):
    home.log("web").write_text(
        "INFO fine\nERROR cannot reach postgresql://postgres:hunter2@127.0.0.1/x with kd_live_abc123\nINFO fine\n"
    )
    seen = finding(home, "log web.log").seen
    assert seen.startswith("ERROR cannot reach")
    assert "hunter2" not in seen and "kd_live" not in seen
