"""A Postgres like that of the start for one bench alone, with nothing in it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from kindling_platform.embedded.bench_gateway.subject import settings_for
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.postgres import PostgresServer
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.throwaway import throwaway_stack

NOBODY = "redis://127.0.0.1:9/0"


@contextmanager
def throwaway_database() -> Iterator[Home]:
    """Point this process's settings at the server until the end. Errors: EmbeddedError."""
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
        yield home
