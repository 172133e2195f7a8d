"""The supervisor from outside: what it prints works, what dies comes back, what is stopped is gone."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from kindling_stack import Stack, free_port, started_stack
from kindling_tenant import poll

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def descendants(pid: int) -> set[int]:
    """All processes below one, through every generation."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except FileNotFoundError:
                continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def wait(good: Callable[[], bool], seconds: float = 30) -> None:
    poll(good, bool, seconds=seconds, every=0.05)


def test_state_is_private_and_names_living_children(stack: Stack):
    assert stat.S_IMODE((stack.home / "run/state.json").stat().st_mode) == 0o600
    assert set(stack.state["children"]) == {"postgres", "valkey", "web", "worker", "beat", "agent", "stripe"}
    assert all(is_alive(pid) for pid in stack.state["children"].values())
    assert stack.state["pid"] == stack.process.pid


def test_printed_line_works_as_it_stands(stack: Stack):
    printed = stack.log.read_text()
    (line,) = [line for line in printed.splitlines() if line.startswith("curl ")]
    done = subprocess.run(
        ["bash", "-c", f"{line} -s"], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_printed_login_works_and_a_reset_replaces_it(stack: Stack):
    email, password = stack.operator_login()
    assert signs_in(stack, email, password)
    stack.operator_reset()
    assert signs_in(stack, *stack.operator_login())
    assert not signs_in(stack, email, password)


def signs_in(stack: Stack, email: str, password: str) -> bool:
    with httpx.Client(base_url=stack.url, follow_redirects=True, timeout=30) as http:
        http.get("/accounts/login/")
        form = {"login": email, "password": password, "csrfmiddlewaretoken": http.cookies["csrftoken"]}
        done = http.post("/accounts/login/", data=form, headers={"Referer": f"{stack.url}/accounts/login/"})
        return done.url.path.startswith("/console")


def test_second_start_on_the_same_folder_is_refused(stack: Stack):
    second = stack.cli("up", KINDLING_PORT=str(free_port()))
    assert second.returncode == 1 and "[already_running]" in second.stdout
    assert is_alive(stack.process.pid)


def test_doctor_finds_nothing_wrong_with_a_healthy_stack(stack: Stack):
    seen = stack.cli("doctor")
    assert seen.returncode == 0, seen.stdout
    assert "PostgreSQL" in seen.stdout and stack.api_key not in seen.stdout


def test_taken_port_is_refused_with_what_to_do(tmp_path: Path, stack: Stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = stack.cli("up", KINDLING_HOME=str(tmp_path / "home"), KINDLING_PORT=str(port))
    assert refused.returncode == 1
    assert "[port_in_use]" in refused.stdout and "doctor" in refused.stdout


def test_public_address_is_refused_with_default_secrets(tmp_path: Path, stack: Stack):
    refused = stack.cli("up", KINDLING_HOME=str(tmp_path / "home"), KINDLING_HOST="0.0.0.0")
    assert refused.returncode == 1 and "[public_bind_refused]" in refused.stdout


def test_wrong_settings_are_named_together(tmp_path: Path, stack: Stack):
    refused = stack.cli(
        "up", KINDLING_HOME=str(tmp_path / "h"), KINDLING_PORT="many", KINDLING_SIGNUP_CREDIT_USD="lots"
    )
    assert refused.returncode == 1 and "[settings_invalid]" in refused.stdout
    assert "KINDLING_PORT" in refused.stdout and "KINDLING_SIGNUP_CREDIT_USD" in refused.stdout


def test_broken_model_folder_ends_the_start_with_its_reason(tmp_path: Path, stack: Stack):
    tmp_path.chmod(0o755)
    (tmp_path / "model").mkdir()
    failed = stack.cli(
        "up", "--model", str(tmp_path / "model"),
        KINDLING_HOME=str(tmp_path / "home"), KINDLING_PORT=str(free_port()),
    )  # fmt: skip
    assert failed.returncode == 1
    assert "config.json" in failed.stdout and "doctor" in failed.stdout


def test_everything_survives_kills_and_a_stop_leaves_nothing(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("own")
    with started_stack(folder) as stack:
        for name in ("web", "worker", "valkey", "postgres", "agent", "beat", "stripe"):
            before = stack.pid(name)
            os.kill(before, signal.SIGKILL)
            wait(lambda name=name, before=before: stack.pid(name) != before)
        wait(lambda: is_healthy(stack))
        tenant = stack.sign_up("after-kills")
        answer = poll(lambda: ask(stack.url, tenant.key), lambda reply: reply.status_code == 200, seconds=60)
        assert int(tenant.event(answer.headers["x-request-id"])["cost_picousd"]) > 0
        api_key, below = stack.api_key, descendants(stack.process.pid)
        assert len(below) >= 8

        # Killed without a word: the kernel ends the children, and the next start finds all that was committed.
        stack.process.kill()
        stack.process.wait()
        wait(lambda: not any(is_alive(pid) for pid in below))
    with started_stack(folder) as again:
        assert again.api_key == api_key
        assert re.search(r"Operator .*reset-operator", again.log.read_text())
        me = httpx.get(f"{again.url}/api/v1/me", headers={"Authorization": f"Bearer {tenant.key}"})
        assert me.json()["organisation"]["slug"] == tenant.slug
        below = descendants(again.process.pid)
        began = time.monotonic()
        assert "Stopped" in again.cli("down").stdout
        assert again.process.wait(10) == 0
        assert time.monotonic() - began < 15
        assert not any(is_alive(pid) for pid in below)
        assert not (again.home / "run/state.json").exists()
        assert "Nothing runs" in again.cli("down").stdout


def is_healthy(stack: Stack) -> bool:
    try:
        psycopg.connect(stack.state["database_url"]).close()
        return httpx.get(f"{stack.url}/healthz", timeout=5).status_code == 200
    except (httpx.HTTPError, psycopg.OperationalError):
        return False


def ask(url: str, key: str) -> httpx.Response:
    body = {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
    try:
        return httpx.post(
            f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
    except httpx.HTTPError as error:
        return httpx.Response(599, text=str(error))
