"""The supervisor from outside: what it prints works, and what it cannot start with is said."""

import json
import socket
import stat
import subprocess
from pathlib import Path

import httpx
import pytest

from kindling_pids import is_alive
from kindling_stack import Stack, free_port

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]


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
    with httpx.Client(base_url=stack.url, follow_redirects=True, timeout=60) as http:
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
    assert "django_migrations" not in seen.stdout, "a first start has asked for a table before it was made"


def test_taken_port_is_refused_with_what_to_do(tmp_path: Path, stack: Stack):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = stack.cli("up", KINDLING_HOME=str(tmp_path / "home"), KINDLING_PORT=str(port))
    assert refused.returncode == 1
    assert "[port_in_use]" in refused.stdout and "doctor" in refused.stdout


def test_public_address_is_refused_with_default_secrets(tmp_path: Path, stack: Stack):
    refused = stack.cli("up", KINDLING_HOME=str(tmp_path / "home"), KINDLING_HOST="0.0.0.0")
    assert refused.returncode == 1 and "[public_bind_refused]" in refused.stdout


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("HOST", "nonsense.invalid", "host_unknown"),
        ("DATABASE_URL", "postgresql://a:b@127.0.0.1:1/x", "database_unreachable"),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "cache_unreachable"),
    ],
)
def test_what_a_start_would_wait_for_in_vain_is_said_at_once(
    tmp_path: Path, stack: Stack, name: str, value: str, code: str
):
    refused = stack.cli(
        "up",
        **{
            "KINDLING_HOME": str(tmp_path / "h"),
            "KINDLING_PORT": str(free_port()),
            f"KINDLING_{name}": value,
        },
    )
    assert refused.returncode == 1 and f"[{code}]" in refused.stdout
    assert f"KINDLING_{name}" in refused.stdout and "Traceback" not in refused.stdout + refused.stderr


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
