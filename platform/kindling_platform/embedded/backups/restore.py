"""`./kindling restore`: an empty state folder becomes the installation that a backup was made of."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from kindling_platform.embedded.account import location_file, reachable_folder, service_account
from kindling_platform.embedded.backups.archive import archive_unpack
from kindling_platform.embedded.backups.backup import DUMP
from kindling_platform.embedded.backups.dumps import database_fill
from kindling_platform.embedded.backups.staging import FOLDERS
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.ports_file import ports_hold
from kindling_platform.embedded.postgres import CLUSTER
from kindling_platform.embedded.preparation import last_object, run_django
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers

MARKER = "restoring"


def backup_restore(home: Home, source: Path, *, passphrase: str = "") -> dict[str, Any]:
    """Restore into an empty state folder and prove the books; gives what the proof counted.

    A restore that was killed is begun anew by the same command. Errors: `home_not_empty`, `books_unsound`,
    `schema_newer`, `restore_failed`, and those of the archive and of the dump.
    """
    if not (home.path / MARKER).exists() and _is_used(home):
        raise EmbeddedError(
            "home_not_empty",
            f"{home.path} holds an installation; restore into another folder: KINDLING_HOME=… restore …",
        )
    home.make()
    lock = HomeLock(home, what="A restore")
    lock.take()
    try:
        _clear(home)
        (home.path / MARKER).write_text(f"{source}\n")
        archive_unpack(source, home.path, passphrase)
        proof = _database_restore(home)
        (home.path / DUMP).unlink()
        (home.path / MARKER).unlink()
        return proof
    except OSError as error:
        raise EmbeddedError("restore_failed", f"The restore did not end: {error}.") from error
    finally:
        lock.release()


def restore_check(home: Home) -> None:
    """Refuse a state folder whose restore did not end. Errors: `restore_unfinished`."""
    if (home.path / MARKER).exists():
        raise EmbeddedError(
            "restore_unfinished", f"A restore into {home.path} did not end; run the same restore again."
        )


def _database_restore(home: Home) -> dict[str, Any]:
    holds = ports_hold(home)
    ports = {name: hold.port for name, hold in holds.items()}
    servers = Servers.plan(home, ports, secrets_ensure(home.secrets))
    os.environ.update(servers.environ(), KINDLING_HOME=str(home.path))
    try:
        if servers.postgres:
            servers.postgres.start()
        database_fill(os.environ["KINDLING_DATABASE_URL"], home.path / DUMP)
        return _prove(home)
    finally:
        if servers.postgres:
            servers.postgres.stop()
        for hold in holds.values():
            hold.release()


def _prove(home: Home) -> dict[str, Any]:
    done = run_django(home, "prepare", "prove_restored")
    found = last_object(done.stdout)
    if found and "error" in found:
        raise EmbeddedError(found["error"]["code"], found["error"]["message"])
    if done.returncode != 0 or found is None:
        log = home.log("prepare")
        raise EmbeddedError("restore_failed", f"The books could not be proved:\n{log_tail(log)}")
    return found


def _is_used(home: Home) -> bool:
    names = (home.secrets.name, "postgres", "postgres.location")
    folders = [home.path / name for name in FOLDERS if (home.path / name).is_dir()]
    return any((home.path / name).exists() for name in names) or any(any(f.iterdir()) for f in folders)


def _clear(home: Home) -> None:
    """Take away what a killed restore left; an empty folder has none of it."""
    wanted = home.path / "postgres"
    with contextlib.suppress(EmbeddedError):
        shutil.rmtree(reachable_folder(wanted, service_account(), kept=CLUSTER), ignore_errors=True)
    location_file(wanted).unlink(missing_ok=True)
    for name in FOLDERS:
        shutil.rmtree(home.path / name, ignore_errors=True)
    home.secrets.unlink(missing_ok=True)
    home.make()
