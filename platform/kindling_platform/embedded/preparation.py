"""Brings the database to the present and makes what a first start needs, in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kindling_engine.starter import SPARK_NAME
from kindling_platform.catalog.hub import model_target
from kindling_platform.catalog.hub_files import source_read
from kindling_platform.common.errors import KindlingError
from kindling_platform.config.env import Env
from kindling_platform.embedded.children import child_env, django_argv
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.forks import WORKERS, start
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.process import Command, Running


@dataclass(slots=True)
class DjangoRun:
    """A management command that runs; what it says on standard output is read from `said`."""

    process: Running
    argv: tuple[str, ...]
    said: IO[str]

    def finish(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; whoever is interrupted meanwhile ends it."""
        try:
            with self.said:
                text = self.said.read()
            return subprocess.CompletedProcess(self.argv, self.process.wait(), text)
        except BaseException:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise


def is_prepared(home: Home, env: Env) -> bool:
    """Whether a preparation has neither a schema to change, on which nobody may be served, nor a model to fetch."""
    if WORKERS not in sys.modules or not _is_here(home, env.model):
        return False
    # It needs what a start has loaded by now.
    from kindling_platform.embedded.schema import schema_is_current

    return schema_is_current(env.database_url)


def _is_here(home: Home, model: str) -> bool:
    if model == SPARK_NAME or Path(model).is_absolute():
        return True
    try:
        target = model_target(home.path / "models", model)
    except KindlingError:
        return False
    source = source_read(target)
    return source is not None and source.is_whole(target)


def preparation_run(home: Home) -> dict[str, Any]:
    """Migrate and bootstrap. Gives and errors: as `preparation_finish`."""
    return preparation_finish(home, preparation_start(home))


def preparation_start(home: Home) -> DjangoRun:
    """Begin to migrate and bootstrap."""
    return start_django(home, "prepare", "bootstrap", "--migrate")


def preparation_finish(home: Home, run: DjangoRun) -> dict[str, Any]:
    """What the bootstrap command printed.

    Errors: the code and sentence of the command, else `prepare_failed` with the end of its log.
    """
    done = run.finish()
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
    return start_django(home, log_name, *arguments).finish()


def start_django(home: Home, log_name: str, *arguments: str) -> DjangoRun:
    """Begin a management command."""
    argv = tuple(django_argv(*arguments))
    command = Command(
        name=arguments[0], argv=argv, env=child_env(), log_path=home.log(log_name), cwd=home.path
    )
    read, write = os.pipe()
    said = os.fdopen(read)
    try:
        return DjangoRun(start(command, stdout=write), argv, said)
    except BaseException:
        said.close()
        raise
    finally:
        os.close(write)


def last_object(text: str) -> dict[str, Any] | None:
    """The last JSON object among lines of output."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
