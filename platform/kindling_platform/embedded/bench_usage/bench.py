"""Starts a throw-away Postgres and measures in a process of its own, which is Django's."""

import subprocess
from typing import Any

from rich.console import Console
from rich.progress import Progress

from kindling_platform.embedded.children import child_env, django_argv
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.preparation import last_object, run_django
from kindling_platform.embedded.throwaway_database import throwaway_database

FULL, QUICK = 10_000_000, 200_000


def usage_bench(*, quick: bool) -> dict[str, Any]:
    """Fill a database with requests, make their roll-ups, and time the pages about them. Errors: EmbeddedError."""
    with throwaway_database() as home:
        if run_django(home, "migrate", "migrate", "--no-input").returncode:
            raise _failed(home, "migrate")
        text, code = _measured(home, QUICK if quick else FULL)
        if code:
            raise _failed(home, "bench_usage")
        return last_object(text) or {}


def _measured(home: Home, requests: int) -> tuple[str, int]:
    """The output and exit code of the command, which says first how far it is and then its figures."""
    said = ""
    with (
        home.log("bench_usage").open("ab") as errors,
        Progress(console=Console(stderr=True), transient=True) as progress,
        subprocess.Popen(
            django_argv("bench_usage", str(requests)),
            env=child_env(),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        tasks = {
            what: progress.add_task(what, total=1.0) for what in ("requests", "ledger", "roll-ups", "pages")
        }
        for line in process.stdout or ():
            share, _, what = line.strip().partition(" ")
            if what in tasks:
                progress.update(tasks[what], completed=float(share))
            else:
                said += line
    return said, process.returncode


def _failed(home: Home, command: str) -> EmbeddedError:
    return EmbeddedError("bench_failed", f"{command} failed:\n{log_tail(home.log(command))}")
