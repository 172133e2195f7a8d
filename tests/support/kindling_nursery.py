"""Engines, agents and gateways as forks of processes that have loaded what they load once: torch takes three seconds.

Front and core of an engine are processes as ever, the core a child of the front; but the front holds torch as well.
"""

import asyncio
import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

# By their package, what processes of it load at their start.
SHARED = {
    "kindling_engine": (
        *("kindling_engine.core.engine", "kindling_engine.core.startup", "kindling_engine.jit.program"),
        "kindling_engine.server.serve",
    ),
    "kindling_gateway_process": ("kindling_gateway_process",),
    "kindling_workers": ("kindling_workers.agent.routes", "kindling_platform.embedded.secrets"),
}
ENV = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}
SIZE = 1 << 16
# The file that a fork is given beside its output.
KEPT = 3


class Forked:
    """`python -m module arguments…` forked; as much of `subprocess.Popen` as the tests use."""

    def __init__(self, module: str, *arguments: str, log: Path, kept: int | None = None, **env: str) -> None:
        self._nursery = nursery(module.partition(".")[0])
        read, write = os.pipe()
        self.stdout = os.fdopen(read)
        asked = {"fork": [module, *arguments], "log": str(log), "env": {**os.environ, **ENV, **env}}
        try:
            self.pid = self._nursery.ask(asked, write, *([] if kept is None else [kept]))
        finally:
            os.close(write)
        self._ended = os.pidfd_open(self.pid)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("engine", timeout or 0)
            self.returncode = self._nursery.ask({"wait": self.pid})
            os.close(self._ended)
        return self.returncode

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The loaded process, asked over a socket; it and its forks end with this one."""

    def __init__(self, package: str) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, package, str(theirs.fileno())],
                env={**os.environ, **ENV}, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.close)

    def ask(self, what: dict[str, Any], *files: int) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(what).encode()], files)
            return int(self._socket.recv(SIZE))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


@cache
def nursery(package: str) -> Nursery:
    """The one of this session for processes of a package."""
    return Nursery(package)


def main() -> None:
    """The nursery's own life."""
    package, number = sys.argv[1:]
    asked = socket.socket(fileno=int(number))
    for name in SHARED[package]:
        __import__(name)
    tasks = list(Path("/proc/self/task").iterdir())
    assert len(tasks) == 1, "a thread's locks would be copied"
    children = set()
    while True:
        message, files, _flags, _address = socket.recv_fds(asked, SIZE, 2)
        if not message:
            break
        what = json.loads(message)
        if "fork" in what:
            pid = os.fork()
            if pid == 0:
                os.environ.clear()
                os.environ.update(what["env"])
                become(*what["fork"], files=files, log=Path(what["log"]))
            for file in files:
                os.close(file)
            children.add(pid)
            asked.send(str(pid).encode())
        else:
            children.discard(what["wait"])
            _, status = os.waitpid(what["wait"], 0)
            asked.send(str(os.waitstatus_to_exitcode(status)).encode())
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def become(module: str, *arguments: str, files: Sequence[int] = (), log: Path | None = None) -> None:
    """Go on as `python -m …`, with signals as at a start and these of the parent's files: the output, one to keep."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if log:
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644), 2)
        os.dup2(files[0] if files else 2, 1)
        for number, file in enumerate(files[1:], KEPT):
            os.dup2(file, number)
        os.closerange(KEPT + len(files[1:]), 1 << 12)
        if module == "kindling_engine":
            from kindling_engine.server import serve

            serve.core_start = core_start
        sys.argv[1:] = arguments
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(status)


async def core_start(options: Any) -> Any:
    """`core_process.core_start` with a fork in the place of a new program."""
    import kindling_engine.server.core_process as real

    async def fork(*command: Any, **_: Any) -> ForkedCore:
        pid = os.fork()
        if pid == 0:
            asyncio._set_running_loop(None)
            become("kindling_engine.core", *map(str, command[len(real.CORE_COMMAND) :]))
        return ForkedCore(pid)

    real.asyncio.create_subprocess_exec, before = fork, real.asyncio.create_subprocess_exec
    try:
        return await real.core_start(options)
    finally:
        real.asyncio.create_subprocess_exec = before


class ForkedCore:
    """As much of asyncio's process as the front uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        watched = os.pidfd_open(pid)

        def end() -> None:
            asyncio.get_running_loop().remove_reader(watched)
            os.close(watched)
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            self._ended.set()

        asyncio.get_running_loop().add_reader(watched, end)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
