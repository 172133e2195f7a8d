"""Real worker and beat processes on the session's real broker, bound to the test database."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from django.db import connection

WORKER = ("worker", "-P", "threads", "-c", "4", "--without-gossip", "--without-mingle", "--without-heartbeat")
BEAT = ("beat", "--pidfile=")


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


class CeleryProcess:
    """`celery worker` or `celery beat`: start, kill, stop."""

    def __init__(self, kind: tuple[str, ...], log: Path, **settings: str) -> None:
        self.kind, self.log, self.settings = kind, log, settings
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "CeleryProcess":
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "kindling_workers.app", *self.kind],
                env=worker_env(**self.settings), stdout=out, stderr=out, cwd=self.log.parent,
            )  # fmt: skip
        return self

    def kill(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None
