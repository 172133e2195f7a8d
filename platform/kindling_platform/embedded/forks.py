"""Python children as forks of this process, which has loaded once what each of them would load for seconds.

A fork has its own log, session, environment, signals and title, and runs its module as `python -m` would. A child
that is started again is forked again. Whoever cannot be forked is started as a program of its own.
"""

import atexit
import gc
import importlib
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from kindling_platform.embedded.process import Command, Running, spawn, tie_to_parent
from kindling_platform.embedded.titles import environment_hide, title_set

log = logging.getLogger(__name__)
SETTINGS = "kindling_platform.config.settings"
# By name, as on the worker's command line: nothing here calls them.
WORKERS = "kindling_workers.app"
CELERY = (
    "celery.bin.celery",
    "celery.apps.worker",
    "celery.apps.beat",
    "celery.concurrency.thread",
    "kombu.transport.redis",
)
OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_MOST_S = 0.05


def shared_load() -> None:
    """Load Django with its apps, and Celery with its tasks; connects to nothing and starts no thread.

    What cannot be loaded is left to the children, whose logs say why.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", SETTINGS)
    # Looking for garbage while so much is made that stays takes a fifth of the time.
    gc.disable()
    try:
        importlib.import_module(WORKERS).app.loader.import_default_modules()
        for name in CELERY:
            importlib.import_module(name)
    except Exception:
        log.debug("nothing is shared", exc_info=True)
        sys.modules.pop(WORKERS, None)
        return
    finally:
        gc.enable()
    # What is here now stays for good: a collector that never looks at it never copies its pages.
    gc.collect()
    gc.freeze()


def start(command: Command, *, stdout: int | None = None) -> Running:
    """Fork `python -m …` where what it needs is loaded and no thread of ours could hold a lock; else spawn it."""
    if WORKERS in sys.modules and len(list(Path("/proc/self/task").iterdir())) == 1:
        return fork(command, stdout=stdout)
    return spawn(command, stdout=stdout)


def fork(command: Command, *, stdout: int | None = None) -> "Forked":
    """Fork a child that runs the module of `python -m module …`. Errors: OSError."""
    command.log_path.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()
    with command.log_path.open("ab") as out:
        # A signal that comes before the child has let go of our handlers would run them there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, OURS)
        try:
            pid = os.fork()
            if pid == 0:
                _become(command, parent, before, out.fileno(), stdout)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Forked(pid)


@dataclass(slots=True)
class Forked:
    """A forked child; what `subprocess.Popen` is for others."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Errors: subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause_s = 0.0005
        while (status := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_MOST_S)
        return status

    def send_signal(self, sig: int) -> None:
        # Until it is waited for, its number is nobody else's.
        if self.poll() is None:
            os.kill(self.pid, sig)


def _become(
    command: Command, parent: int, mask: set[int | signal.Signals], out: int, stdout: int | None
) -> NoReturn:
    """The child's whole life; nothing of the parent's is returned to."""
    status = 1
    try:
        os.setsid()
        tie_to_parent(parent, command.death_signal)
        _streams(out, out if stdout is None else stdout)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in OURS[1:]:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.environ.clear()
        os.environ.update(command.env)
        environment_hide()
        if command.cwd:
            os.chdir(command.cwd)
        title_set(f"kindling {command.name}")
        status = _run(command.argv)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _streams(out: int, stdout: int) -> None:
    """Nothing to read, output to the log; sockets and locks of the parent are closed."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(stdout, 1)
    os.dup2(out, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, write_through=True)  # type: ignore[union-attr]


def _run(argv: tuple[str, ...]) -> int:
    """As `python -m` would: run, wait for threads, call what wants to be called at the end, flush."""
    _python, _m, module, *arguments = argv
    sys.argv = [module, *arguments]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(ended.code + "\n")
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    return status
