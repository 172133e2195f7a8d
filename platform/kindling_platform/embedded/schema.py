"""The database's schema against this program's: newer ones are refused, older ones dumped before they change.

This module runs inside Django.
"""

from datetime import UTC, datetime
from pathlib import Path

from django.apps import apps
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from kindling_platform.common.errors import KindlingError
from kindling_platform.config.env import Env
from kindling_platform.embedded.backups.dumps import database_dump

DUMPS_KEPT = 3
PREFIX, SUFFIX = "before-upgrade-", ".dump"


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
    if pending and executor.loader.applied_migrations:
        _dump(env)
    if pending:
        call_command("migrate", interactive=False, verbosity=0, skip_checks=True)


def _is_ours_or_unknown(label: str) -> bool:
    try:
        return apps.get_app_config(label).name.startswith("kindling_")
    except LookupError:
        return True


def _dump(env: Env) -> None:
    folder = Path(env.home) / "backups"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    database_dump(env.database_url, folder / f"{PREFIX}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}{SUFFIX}")
    for old in sorted(folder.glob(f"{PREFIX}*{SUFFIX}"))[:-DUMPS_KEPT]:
        old.unlink(missing_ok=True)
