"""A whole Kindling, started the way a user starts it, on free ports with a home of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kindling_hub import Hub, hub_run
from kindling_tenant import Tenant

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
INHERITED_BUT_FOREIGN = ("DJANGO_SETTINGS_MODULE",)


@dataclass(slots=True)
class Stack:
    """A running stack; `state` is what the supervisor wrote when it was ready."""

    url: str
    home: Path
    env: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    new_password: str = ""
    hub: Hub | None = None

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "run" / "state.json").read_text()))

    @property
    def api_key(self) -> str:
        """The operator's key, the one which the start prints."""
        return str(self.state["api_key"])

    def operator_login(self) -> tuple[str, str]:
        """The operator's address and password: the printed ones, or what a reset made of them since."""
        found = re.search(r"Operator\s+(\S+)\s+password (\S+)", self.log.read_text())
        assert found, "the start printed no login"
        return found[1], self.new_password or found[2]

    def operator_reset(self) -> None:
        """Give the operator a new password, as somebody who lost the old one would."""
        reset = self.cli("reset-operator")
        assert reset.returncode == 0, reset.stderr
        self.new_password = reset.stdout.split()[-1]

    def pid(self, child: str) -> int:
        return int(self.state["children"][child])

    def sign_up(self, name: str) -> Tenant:
        return Tenant.sign_up(self.url, f"{name}@example.com")

    def cli(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kindling_platform.cli", *args],
            env=self.env | env, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started_by(home: Path) -> int | None:
    """The process that wrote the state; a killed one leaves its state behind until the next start."""
    try:
        return int(json.loads((home / "run" / "state.json").read_text())["pid"])
    except (FileNotFoundError, ValueError):
        return None


def wait_until_ready(process: subprocess.Popen[bytes], home: Path, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while started_by(home) != process.pid:
        if process.poll() is not None:
            raise AssertionError(f"the stack ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGINT)
            raise AssertionError(f"not ready in {START_TIMEOUT_S} s:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


@contextmanager
def started_stack(folder: Path, **settings: str) -> Iterator[Stack]:
    """Start a stack in `folder`, give it when its first token was billed, stop it with Ctrl-C's signal."""
    folder.chmod(0o755)
    home, log, port = folder / "home", folder / "up.log", free_port()
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KINDLING_") and name not in INHERITED_BUT_FOREIGN
    }
    env = clean | {
        "KINDLING_HOME": str(home),
        "KINDLING_PORT": str(port),
        "KINDLING_PUBLIC_URL": f"http://localhost:{port}",
        "OMP_NUM_THREADS": "1",
        **settings,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kindling_platform.cli", "up"],
            env=env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    try:
        wait_until_ready(process, home, log)
        yield Stack(url=f"http://localhost:{port}", home=home, env=env, process=process, log=log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


shared = ExitStack()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack for every test that leaves it as it found it, with a hub of its own that has nothing yet."""
    hub = shared.enter_context(hub_run())
    running = shared.enter_context(started_stack(tmp_path_factory.mktemp("stack"), HF_ENDPOINT=hub.url))
    running.hub = hub
    yield running
    shared.close()


def shares_stack(item: pytest.Item) -> bool:
    return "stack" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share the stack come first, since even without a caller its processes are busy."""
    items.sort(key=lambda item: not shares_stack(item))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if nextitem is not None and shares_stack(item) and not shares_stack(nextitem):
        shared.close()
