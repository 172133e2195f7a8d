"""`./kindling bench rating`: a month in a ledger of its own, on a throw-away Postgres like that of the start."""

import subprocess
import sys

from kindling_platform.embedded.children import child_env
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.preparation import run_django
from kindling_platform.embedded.throwaway_database import throwaway_database


def rating_bench(*, quick: bool, as_json: bool) -> int:
    """Run it in a process of its own, whose exit status says whether every sum was exact. Errors: EmbeddedError."""
    with throwaway_database() as home:
        if run_django(home, "migrate", "migrate", "--no-input").returncode:
            raise EmbeddedError(
                "prepare_failed", f"The ledger could not be made:\n{log_tail(home.log('migrate'))}"
            )
        argv = [sys.executable, "-m", "kindling_billing.bench", *["--quick"] * quick, *["--json"] * as_json]
        return subprocess.run(argv, env=child_env(), check=False).returncode
