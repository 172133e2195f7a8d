"""Brings the database to the present and makes what a first start needs, in a process of its own."""

import json
import subprocess
from pathlib import Path
from typing import Any

from kindling_platform.embedded.children import child_env, django_argv
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.process import log_tail

TIMEOUT_S = 24 * 3600.0


def preparation_run(home: Home) -> dict[str, Any]:
    """Migrate and bootstrap; gives what the bootstrap command printed.

    Errors: the code and sentence of the command, else `prepare_failed` with the end of its log.
    """
    done = run_django(home, "prepare", "bootstrap", "--migrate")
    found = last_object(done.stdout)
    if done.returncode == 0 and found is not None:
        return found
    if found and "error" in found:
        raise EmbeddedError(found["error"]["code"], found["error"]["message"])
    log = home.log("prepare")
    raise EmbeddedError(
        "prepare_failed", f"The database could not be prepared. The end of {log}:\n{log_tail(log)}"
    )


def run_django(home: Home, log_name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a management command; standard output is returned, the rest goes to a log."""
    log: Path = home.log(log_name)
    with log.open("ab") as errors:
        return subprocess.run(
            django_argv(*arguments),
            env=child_env(),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object among lines of output."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
