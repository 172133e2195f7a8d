"""The database as one file, and back, by Postgres's own programs; passwords never stand on a command line."""

import os
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg

from kindling_platform.embedded.account import service_account
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.postgres import find_binaries


def database_dump(url: str, target: Path) -> None:
    """Write one consistent snapshot of a running database. Errors: `dump_failed`, `postgres_missing`."""
    half = target.with_name(f"{target.name}.half")
    try:
        handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.close(handle)
        _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={half}")
        half.replace(target)
    except OSError as error:
        raise EmbeddedError("dump_failed", f"{target} cannot be written ({error.strerror}).") from error
    finally:
        half.unlink(missing_ok=True)


def database_fill(url: str, source: Path) -> None:
    """Fill an empty database from a dump, all of it or nothing.

    Errors: `database_not_empty`, `dump_failed`, `postgres_missing`.
    """
    with psycopg.connect(url) as db:
        if db.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'public' LIMIT 1").fetchone():
            raise EmbeddedError(
                "database_not_empty", "The database already has tables; a restore wants an empty one."
            )
    _run(
        *("pg_restore", url, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"),
        str(source),
    )


def _run(program: str, url: str, *arguments: str) -> None:
    bare, password = _without_password(url)
    binary = find_binaries(service_account()) / program
    done = subprocess.run(
        [str(binary), f"--dbname={bare}", *arguments],
        env={**os.environ, "PGPASSWORD": password} if password else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise EmbeddedError("dump_failed", f"{program} failed: {said[-1] if said else done.returncode}")


def _without_password(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{at}{host}")), unquote(password)
