"""`./kindling bench rating`: a month in a ledger of its own, on a throw-away Postgres like that of the start."""

import os
import subprocess
import sys
from contextlib import ExitStack

from kindling_platform.embedded.bench_gateway.subject import settings_for
from kindling_platform.embedded.children import child_env
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.postgres import PostgresServer
from kindling_platform.embedded.preparation import run_django
from kindling_platform.embedded.process import log_tail
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.throwaway import throwaway_stack

NOBODY = "redis://127.0.0.1:9/0"


def rating_bench(*, quick: bool, as_json: bool) -> int:
    """Run it in a process of its own, whose exit status says whether every sum was exact. Errors: EmbeddedError."""
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
        if run_django(home, "migrate", "migrate", "--no-input").returncode:
            raise EmbeddedError(
                "prepare_failed", f"The ledger could not be made:\n{log_tail(home.log('migrate'))}"
            )
        argv = [sys.executable, "-m", "kindling_billing.bench", *["--quick"] * quick, *["--json"] * as_json]
        return subprocess.run(argv, env=child_env(), check=False).returncode
