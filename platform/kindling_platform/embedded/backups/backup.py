"""`./kindling backup`: one file that a new machine can be made of, written beside a running stack."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psycopg

from kindling_platform.embedded.backups.archive import archive_write
from kindling_platform.embedded.backups.dumps import database_dump
from kindling_platform.embedded.backups.staging import files_stage
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import read_json
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock, stack_runs
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers

DUMP = "database.dump"
PREFIX, SUFFIX = "kindling-", ".backup"
STAGE_PREFIX = ".backup-"
WHAT = "A backup"


def backup_make(home: Home, *, target: Path | None = None, passphrase: str = "", keep: int = 0) -> Path:
    """Back up the installation; gives the file. Without a target it goes to HOME/backups, which keeps `keep`.

    Errors: `nothing_here`, `backup_exists`, `backup_unwritable`, `dump_failed`, `busy`.
    """
    if not home.secrets.exists():
        raise EmbeddedError("nothing_here", f"{home.path} was never started; there is nothing to back up.")
    lock = HomeLock(home, what=WHAT, path=home.backup_lock)
    lock.take()
    try:
        _clear_stages(home)
        return _make(home, target, passphrase, keep)
    finally:
        lock.release()


def _make(home: Home, target: Path | None, passphrase: str, keep: int) -> Path:
    made_at = datetime.now(UTC)
    file = target or home.path / "backups" / f"{PREFIX}{made_at:%Y%m%dT%H%M%S.%fZ}{SUFFIX}"
    if file.exists():
        raise EmbeddedError("backup_exists", f"{file} is there already; a backup never replaces a file.")
    manifest = {"made_at": made_at.isoformat(), "kindling": _version()}
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Below HOME, so that its files can be linked instead of copied.
        with tempfile.TemporaryDirectory(prefix=STAGE_PREFIX, dir=home.path) as text:
            staged = Path(text)
            _stage(home, staged)
            _write(file, staged, manifest, passphrase)
    except OSError as error:
        raise EmbeddedError("backup_unwritable", f"No backup was made: {error}.") from error
    if target is None and keep:
        _forget_older(file.parent, keep)
    return file


def _stage(home: Home, staged: Path) -> None:
    # Before and after the dump: what it names is there, whether it was deleted or made meanwhile.
    files_stage(home.path, staged)
    with database_running(home) as url:
        _check_schema(url)
        database_dump(url, staged / DUMP)
    files_stage(home.path, staged)
    shutil.copy2(home.secrets, staged / home.secrets.name)


@contextmanager
def database_running(home: Home) -> Iterator[str]:
    """The address of this installation's database, which is started for the while if nothing runs.

    Errors: `nothing_here` where there is none, `busy`.
    """
    servers = Servers.plan(home, read_json(home.ports), secrets_ensure(home.secrets))
    if servers.postgres is None:
        yield os.environ["KINDLING_DATABASE_URL"]
        return
    if stack_runs(home):
        yield servers.postgres.url()
        return
    lock = HomeLock(home, what=WHAT)
    lock.take()
    try:
        if not servers.postgres.has_cluster():
            raise EmbeddedError(
                "nothing_here",
                f"{home.path} has no database; where it is one of your own, set KINDLING_DATABASE_URL as for `up`.",
            )
        servers.postgres.start()
        yield servers.postgres.url()
    finally:
        servers.postgres.stop()
        lock.release()


def _check_schema(url: str) -> None:
    """An empty database would make a backup that looks like one. Errors: `nothing_here`, `dump_failed`."""
    try:
        with psycopg.connect(url, connect_timeout=10) as db:
            found = db.execute("SELECT to_regclass('django_migrations')").fetchone()
    except psycopg.OperationalError as error:
        raise EmbeddedError("dump_failed", f"The database does not answer: {error}") from error
    if found is None or found[0] is None:
        raise EmbeddedError(
            "nothing_here", "The database has nothing of Kindling in it; there is nothing to back up."
        )


def _clear_stages(home: Home) -> None:
    """Take away what killed backups left; nobody else makes one meanwhile."""
    for left in home.path.glob(f"{STAGE_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    for left in (home.path / "backups").glob(f".{PREFIX}*.half"):
        with contextlib.suppress(OSError):
            left.unlink()


def _write(file: Path, staged: Path, manifest: dict[str, str], passphrase: str) -> None:
    half = file.with_name(f".{file.name}.half")
    try:
        handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as out:
            archive_write(out, staged, manifest, passphrase)
            out.flush()
            os.fsync(out.fileno())
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)


def _forget_older(folder: Path, keep: int) -> None:
    # Names begin with the time, so that their order is that of their making.
    for old in sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))[:-keep]:
        old.unlink(missing_ok=True)


def _version() -> str:
    try:
        return version("kindling")
    except PackageNotFoundError:
        return "checkout"
