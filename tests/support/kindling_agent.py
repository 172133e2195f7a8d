"""A real agent process whose engines do as a test tells them, for the tests of whoever talks to an agent."""

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from kindling_nursery import Forked
from kindling_platform.embedded.ports import PortHold, hold_port, is_answering
from kindling_workers.drivers.local import LocalDriver

T = TypeVar("T")
ENGINE = Path(__file__).with_name("kindling_obedient_engine.py")


def eventually(look: Callable[[], T], good: Callable[[T], object], *, seconds: float = 60) -> T:
    """The first look that is good; short polls, and the last look in the message when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen):
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s; last seen: {seen!r}")
        time.sleep(0.02)


class AgentProcess:
    """`python -m kindling_workers.agent` in a folder, forked; start it, kill it, start it again."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.token = secrets.token_hex(8)
        self.hold: PortHold = hold_port()
        self.process: Forked | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hold.port}"

    @property
    def driver(self) -> LocalDriver:
        return LocalDriver(self.url, self.token)

    def start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.process = Forked(
            "kindling_workers.agent", "--home", str(self.home),
            "--port", str(self.hold.port), "--engine", f"{sys.executable} {ENGINE}",
            log=self.home / "agent.log", KINDLING_AGENT_TOKEN=self.token,
        )  # fmt: skip
        eventually(lambda: is_answering(self.hold.port), bool)

    def kill(self) -> None:
        """The way a crash ends it; its engines die with it."""
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        self.kill()
        self.hold.release()
