"""Real worker and beat processes on a real broker, bound to the test database."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from django.db import connection

WORKER = ("worker", "-P", "threads", "-c", "4", "--without-gossip", "--without-mingle", "--without-heartbeat")
BEAT = ("beat", "--pidfile=")
GONE_WITHIN_S = 60
NURSERY = """
import json, os, signal, sys
import celery.apps.beat, celery.apps.worker, celery.bin.celery, celery.concurrency.thread, kombu.transport.redis
from kindling_workers.app import app
app.loader.import_default_modules()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
children = []
for line in sys.stdin:
    arguments, log = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(os.path.dirname(log))
        app.start(arguments)
        os._exit(0)
    children.append(pid)
    print(pid, flush=True)
for pid in children:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
"""


def database_url() -> str:
    """The database that pytest-django made, as other processes reach it."""
    url = urlsplit(os.environ["KINDLING_DATABASE_URL"])
    return url._replace(path=f"/{connection.settings_dict['NAME']}").geturl()


def worker_env(**settings: str) -> dict[str, str]:
    return {
        **os.environ,
        "KINDLING_DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "kindling_platform.config.settings",
        **settings,
    }


class Nursery:
    """A process that has imported everything and forks workers and beats, which so start in a moment."""

    def __init__(self, log: Path, **settings: str) -> None:
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-c", NURSERY],
                env=worker_env(**settings),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                text=True,
            )

    def fork(self, arguments: tuple[str, ...], log: Path) -> int:
        """Start one; gives its process id."""
        asked, told = self._pipes()
        asked.write(json.dumps([arguments, str(log)]) + "\n")
        asked.flush()
        return int(told.readline())

    def close(self) -> None:
        """End it and whatever it has forked."""
        self._process.communicate()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin and self._process.stdout
        return self._process.stdin, self._process.stdout


class CeleryProcess:
    """`celery worker` or `celery beat` of a nursery: start it, kill it, start it again."""

    def __init__(self, nursery: Nursery, kind: tuple[str, ...], log: Path) -> None:
        self._nursery, self._kind, self.log = nursery, kind, log
        self._pid = 0

    def start(self) -> "CeleryProcess":
        self.log.touch()
        self._pid = self._nursery.fork(self._kind, self.log)
        return self

    def kill(self) -> None:
        """The way a crash ends it; it is gone afterwards."""
        if not self._pid:
            return
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        deadline = time.monotonic() + GONE_WITHIN_S
        while Path(f"/proc/{self._pid}").exists():
            assert time.monotonic() < deadline, "a killed process does not end"
            time.sleep(0.005)
        self._pid = 0
