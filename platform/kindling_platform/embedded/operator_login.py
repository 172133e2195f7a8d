"""`./kindling reset-operator`: a new password for the operator of this installation."""

import json
import os
import subprocess

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import read_json
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock, stack_runs
from kindling_platform.embedded.postgres import PostgresServer
from kindling_platform.embedded.preparation import run_django
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers


def operator_reset(home: Home) -> tuple[str, str]:
    """E-mail and new password; works beside a running stack and without one.

    Errors: `reset_failed`, `nothing_here` when this folder was never started.
    """
    if not home.secrets.exists():
        raise EmbeddedError("nothing_here", f"{home.path} was never started; run `./kindling up` first.")
    servers = Servers.plan(home, read_json(home.ports), secrets_ensure(home.secrets))
    os.environ.update(servers.environ(), KINDLING_HOME=str(home.path))
    if stack_runs(home) or servers.postgres is None:
        done = run_django(home, "prepare", "reset_operator")
    else:
        done = _run_with_postgres(home, servers.postgres)
    if done.returncode != 0:
        raise EmbeddedError("reset_failed", f"The password was not changed; see {home.log('prepare')}.")
    found = json.loads(done.stdout.splitlines()[-1])
    return str(found["operator_email"]), str(found["operator_password"])


def _run_with_postgres(home: Home, postgres: PostgresServer) -> subprocess.CompletedProcess[str]:
    lock = HomeLock(home, what="A reset of the operator's password")
    lock.take()
    try:
        postgres.start()
        return run_django(home, "prepare", "reset_operator")
    finally:
        postgres.stop()
        lock.release()
