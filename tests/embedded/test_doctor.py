"""What the doctor sees on a machine where nothing runs."""

import os
import socket
from pathlib import Path

import pytest

from kindling_engine.protocol.replica import ReplicaSpec
from kindling_object_store import s3_running
from kindling_platform.embedded.children import agent_child, beat_child, child_env, worker_child
from kindling_platform.embedded.doctor import Finding, doctor_run
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_workers.agent.engine import engine_env as agent_engine_env


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set, as for somebody who has just come; the tests' own servers and secrets are none of theirs."""
    for name in [name for name in os.environ if name.startswith("KINDLING_")]:
        monkeypatch.delenv(name)
    hold = hold_port()
    monkeypatch.setenv("KINDLING_PORT", str(hold.port))
    hold.release()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    secrets_ensure(made.secrets)
    return made


def finding(home: Home, check: str) -> Finding:
    return next(found for found in doctor_run(home) if found.check == check)


def test_fresh_folder_has_no_problem(home: Home):
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "99999"),
        ("DATABASE_URL", "foo"),
        ("REDIS_URL", "foo"),
        ("LOG_LEVEL", "FOO"),
        ("SIGNUP_CREDIT_USD", "-1"),
        ("PUBLIC_URL", "http://[::1"),
    ],
)
def test_settings_that_a_start_refuses_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
):
    for home in (Home(tmp_path / "none"), Home(tmp_path)):
        monkeypatch.setenv(f"KINDLING_{name}", value)
        found = finding(home, "settings")
        assert not found.good and f"KINDLING_{name} must be" in found.advice
        assert found.advice.count("KINDLING_") == 1, "what a start makes up is not missing"


def test_address_that_others_reach_too_early_is_a_problem(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KINDLING_HOST", "0.0.0.0")
    found = finding(home, "reach")
    assert not found.good
    assert "KINDLING_SMTP_URL" in found.advice and "KINDLING_STRIPE_SECRET_KEY" in found.advice


def test_host_that_is_nowhere_is_the_only_problem(home: Home, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KINDLING_HOST", "192.0.2.1")
    assert [found.check for found in doctor_run(home) if not found.good] == ["host"]


def test_own_servers_that_do_not_answer_are_problems(home: Home, monkeypatch: pytest.MonkeyPatch):
    hold = hold_port()
    monkeypatch.setenv("KINDLING_DATABASE_URL", f"postgresql://me:hunter2@127.0.0.1:{hold.port}/kindling")
    monkeypatch.setenv("KINDLING_REDIS_URL", f"redis://:hunter2@127.0.0.1:{hold.port}/0")
    for check, name in (("database", "KINDLING_DATABASE_URL"), ("cache", "KINDLING_REDIS_URL")):
        found = finding(home, check)
        assert not found.good and name in found.advice and "refused" in found.advice
        assert "hunter2" not in found.advice
    hold.release()


@pytest.mark.parametrize("below", ["x", "x/y"])
def test_folder_that_cannot_be_made_is_a_problem(tmp_path: Path, below: str):
    (tmp_path / "file").write_text("")
    found = finding(Home(tmp_path / "file" / below), "state folder")
    assert not found.good and f"{tmp_path / 'file'} is no folder" in found.advice


def test_folder_that_is_a_file_is_a_problem(tmp_path: Path):
    (tmp_path / "file").write_text("")
    assert not finding(Home(tmp_path / "file"), "state folder").good


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


def test_an_object_store_is_tried_and_left_as_it_was(home: Home, monkeypatch: pytest.MonkeyPatch):
    assert all(found.check != "object store" for found in doctor_run(home)), "none is asked where none is set"
    with s3_running() as s3:
        for name, value in s3.settings().items():
            monkeypatch.setenv(name, value)
        assert finding(home, "object store").good
        assert s3.names() == []
        s3.write("installation.json", b'{"installation": "another"}')
        assert "Another installation keeps its files" in finding(home, "object store").advice
        s3.status, s3.body = (
            403,
            b"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>",
        )
        found = finding(home, "object store")
    assert not found.good
    assert found.advice == (
        "The object store refuses the credentials, or does not let them do this. Look at KINDLING_OBJECT_STORE "
        "and the settings that begin with it (403 SignatureDoesNotMatch)."
    )
    monkeypatch.setenv("KINDLING_OBJECT_STORE", "https://bucket")
    found = finding(home, "settings")
    assert "KINDLING_OBJECT_STORE must be an address like s3://bucket/prefix" in found.advice


def test_only_who_asks_the_object_store_sees_its_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("KINDLING_OBJECT_STORE_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("KINDLING_OBJECT_STORE", "s3://bucket")
    place = Home(tmp_path)
    seen = {
        child.command.name: "secret" in child.command.env.values()
        for child in (worker_child(place), agent_child(place, 1), beat_child(place))
    }
    assert seen == {"worker": True, "agent": True, "beat": False}
    assert "secret" not in child_env().values(), "web, stand-in and preparation have this one"
    spec = ReplicaSpec(name="r", deployment_id="d", generation=1, model_path="m", model_ref="m")
    assert "secret" not in agent_engine_env(spec).values()
