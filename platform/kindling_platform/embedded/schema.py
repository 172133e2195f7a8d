"""The database's schema against this program's: newer ones are refused, older ones dumped before they change.

This module runs inside Django.
"""

from datetime import UTC, datetime
from pathlib import Path

import psycopg
from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from kindling_platform.common.errors import KindlingError
from kindling_platform.config.env import Env
from kindling_platform.embedded.backups.dumps import database_dump
from kindling_platform.embedded.files import write_private

DUMPS_KEPT = 3
PREFIX, SUFFIX = "before-upgrade-", ".dump"
# Names the dump of an upgrade that has not ended.
NOTE = "upgrading"


def schema_migrate(env: Env) -> None:
    """Bring the schema to the present, after a dump to HOME/backups when there is one to lose.

    Errors: KindlingError `schema_newer`; EmbeddedError `dump_failed`, and then nothing was changed.
    """
    executor = MigrationExecutor(connection)
    newer = sorted(
        f"{label}.{name}"
        for label, name in set(executor.loader.applied_migrations) - set(executor.loader.disk_migrations)
        if _is_ours_or_unknown(label)
    )
    if newer:
        raise KindlingError(
            "schema_newer",
            f"A newer Kindling has changed this database ({newer[-1]}); start it with that version, "
            "or restore the backup that was made before the upgrade.",
            409,
        )
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    note = Path(env.home) / "backups" / NOTE
    if pending and executor.loader.applied_migrations:
        _dump_once(env, note)
    if pending:
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)
    note.unlink(missing_ok=True)


def schema_is_current(url: str) -> bool:
    """Whether the database has had every migration of this program; looks without Django's connection."""
    disk = MigrationLoader(None)
    try:
        with psycopg.connect(url, connect_timeout=5) as db:
            # To ask for a table that is not there yet leaves an error in the server's log.
            if db.execute("SELECT to_regclass('django_migrations')").fetchone() == (None,):
                return False
            rows = db.execute("SELECT app, name FROM django_migrations").fetchall()
    except psycopg.Error:
        return False
    return set(disk.graph.leaf_nodes()) <= {(app, name) for app, name in rows}


def _is_ours_or_unknown(label: str) -> bool:
    try:
        return apps.get_app_config(label).name.startswith("kindling_")
    except LookupError:
        return True


def _dump_once(env: Env, note: Path) -> None:
    """One dump an upgrade: when it fails half way and is tried again, the database is no longer what it was before, and
    dumps of that would push out those worth keeping. Nothing serves in between.
    """
    folder = note.parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if note.exists() and (folder / note.read_text().strip()).is_file():
        return
    name = f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{SUFFIX}"
    database_dump(env.database_url, folder / name)
    write_private(note, f"{name}\n")
    for old in sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))[:-DUMPS_KEPT]:
        old.unlink(missing_ok=True)
