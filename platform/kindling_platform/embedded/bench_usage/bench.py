"""Starts a throw-away Postgres and measures in a process of its own, which is Django's."""

from typing import Any

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.preparation import last_object, run_django
from kindling_platform.embedded.process import log_tail
from kindling_platform.embedded.throwaway_database import throwaway_database

FULL, QUICK = 10_000_000, 200_000


def usage_bench(*, quick: bool) -> dict[str, Any]:
    """Fill a database with requests, make their roll-ups, and time the pages about them. Errors: EmbeddedError."""
    with throwaway_database() as home:
        for arguments in (("migrate", "--no-input"), ("bench_usage", str(QUICK if quick else FULL))):
            done = run_django(home, arguments[0], *arguments)
            if done.returncode:
                raise EmbeddedError(
                    "bench_failed", f"{arguments[0]} failed:\n{log_tail(home.log(arguments[0]))}"
                )
        return last_object(done.stdout) or {}
