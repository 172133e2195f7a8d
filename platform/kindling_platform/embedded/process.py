"""A child process that never outlives us, and the back-off with which a dead one is started again.

Spawn from the main thread only: the kernel sends the death signal when the forking *thread* ends.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kindling_platform.embedded.account import Account

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Command:
    """How a child is started and how it wants to be stopped."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_path: Path
    cwd: Path | None = None
    account: Account | None = None
    stop_signal: int = signal.SIGTERM
    death_signal: int = signal.SIGKILL
    stop_timeout_s: float = 10.0


class Running(Protocol):
    """A process of ours, however it was started."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int, /) -> None: ...


class Start(Protocol):
    """A way to start a child."""

    def __call__(self, command: Command, *, stdout: int | None = None) -> Running: ...


def spawn(command: Command, *, stdout: int | None = None) -> subprocess.Popen[bytes]:
    """Start the child in a session of its own, so that Ctrl-C reaches us alone.

    Its output is appended to the log; `stdout` (a descriptor) takes standard output apart.
    """
    parent = os.getpid()
    death_signal = int(command.death_signal)
    command.log_path.parent.mkdir(parents=True, exist_ok=True)
    account = command.account
    with command.log_path.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            env=dict(command.env),
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=log if stdout is None else stdout,
            stderr=log,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            # Two system calls and no Python lock: safe although this process may have threads. Runs after the
            # change of uid, which would clear the death signal again.
            preexec_fn=lambda: tie_to_parent(parent, death_signal),  # noqa: PLW1509
        )


def tie_to_parent(parent: int, death_signal: int) -> None:
    """In a child: end when the parent ends, also if it has by now."""
    _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@dataclass(slots=True)
class Backoff:
    """Waiting time before the next start: none at first, doubling while the child keeps dying young."""

    first_s: float = 0.2
    most_s: float = 10.0
    forgiven_after_s: float = 20.0
    _deaths: int = 0

    def next_delay_s(self, lived_s: float) -> float:
        """The wait after a life of `lived_s`; the first death after a long life costs nothing."""
        if lived_s >= self.forgiven_after_s:
            self._deaths = 0
        self._deaths += 1
        if self._deaths == 1:
            return 0.0
        return float(min(self.most_s, self.first_s * 2 ** min(self._deaths - 2, 16)))


@dataclass(slots=True)
class Child:
    """A supervised child: started, watched, started again, stopped."""

    command: Command
    before_start: Callable[[], None] | None = None
    start_with: Start = spawn
    restarts: int = 0
    process: Running | None = None
    _backoff: Backoff = field(default_factory=Backoff)
    _started_at: float = 0.0
    _due_at: float | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> None:
        if self.before_start:
            self.before_start()
        self.process = self.start_with(self.command)
        self._started_at = time.monotonic()
        self._due_at = None

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tend(self) -> bool:
        """Start the child again if it died and its wait is over; True when that happened just now."""
        if self.process is None or self.is_alive():
            return False
        now = time.monotonic()
        if self._due_at is None:
            self._due_at = now + self._backoff.next_delay_s(now - self._started_at)
        if now < self._due_at:
            return False
        try:
            self.start()
        except OSError:  # a full disk, or no process to be had: as if it had died at once
            self._due_at = now + self._backoff.next_delay_s(0.0)
            return False
        self.restarts += 1
        return True

    def signal_stop(self) -> None:
        """Ask the child to end; `wait_stopped` then waits, so that several can end at the same time."""
        if self.is_alive() and self.process:
            self.process.send_signal(self.command.stop_signal)

    def wait_stopped(self) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(self.command.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def stop(self) -> None:
        self.signal_stop()
        self.wait_stopped()

    def kill(self) -> None:
        """End the child and whatever shares its session, without a chance to clean up."""
        if self.process is None or self.process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        # A fork may not have had the time to begin its session.
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
