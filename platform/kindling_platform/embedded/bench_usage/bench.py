"""Starts a throw-away Postgres and measures in a process of its own, which is Django's."""

import os
from contextlib import ExitStack
from typing import Any

from kindling_platform.embedded.bench_gateway.subject import settings_for
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.postgres import PostgresServer
from kindling_platform.embedded.preparation import last_object, run_django
from kindling_platform.embedded.process import log_tail
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.throwaway import throwaway_stack

FULL, QUICK = 10_000_000, 200_000
NOBODY = "redis://127.0.0.1:9/0"


def usage_bench(*, quick: bool) -> dict[str, Any]:
    """Fill a database with requests, make their roll-ups, and time the pages about them. Errors: EmbeddedError."""
    with ExitStack() as stack:
        home = stack.enter_context(throwaway_stack()).home
        home.make()
        stack.enter_context(settings_for(home))
        made = secrets_ensure(home.secrets)
        hold = hold_port()
        stack.callback(hold.release)
        server = PostgresServer(
            data_dir=home.path / "postgres",
            port=hold.port,
            password=made["KINDLING_POSTGRES_PASSWORD"],
            log_path=home.log("postgres"),
        )
        stack.callback(server.stop)
        server.start()
        os.environ |= {"KINDLING_DATABASE_URL": server.url(), "KINDLING_REDIS_URL": NOBODY}
        for arguments in (("migrate", "--no-input"), ("bench_usage", str(QUICK if quick else FULL))):
            done = run_django(home, arguments[0], *arguments)
            if done.returncode:
                raise EmbeddedError(
                    "bench_failed", f"{arguments[0]} failed:\n{log_tail(home.log(arguments[0]))}"
                )
        return last_object(done.stdout) or {}
