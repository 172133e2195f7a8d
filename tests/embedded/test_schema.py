"""The dump before an upgrade is that of the state before it, however often the upgrade is tried."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from kindling_platform.catalog.hub_files import Source
from kindling_platform.config.env import Env
from kindling_platform.embedded import preparation, schema
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.schema import schema_is_current, schema_migrate


class Upgrade:
    """A database of which only what stands in it is known, with a migration to come."""

    def __init__(self, env: Env, patch: pytest.MonkeyPatch) -> None:
        self.env, self.content, self.pending = env, "old", True
        loader = SimpleNamespace(
            applied_migrations={("usage", "0001"): 1}, disk_migrations={("usage", "0001"): 1},
            graph=SimpleNamespace(leaf_nodes=list),
        )  # fmt: skip
        plan = SimpleNamespace(loader=loader, migration_plan=lambda _leaves: [1] if self.pending else [])
        patch.setattr(schema, "MigrationExecutor", lambda _connection: plan)
        patch.setattr(schema, "database_dump", lambda _url, target: target.write_text(self.content))
        patch.setattr(schema, "call_command", self._migrate)
        self.works = False

    def _migrate(self, *_: object, **__: object) -> None:
        self.content = "new" if self.works else f"half of {self.content}"
        if not self.works:
            raise RuntimeError("the second migration fails")
        self.pending = False

    def fail(self) -> None:
        with pytest.raises(RuntimeError):
            schema_migrate(self.env)

    def dumps(self) -> list[str]:
        return [path.read_text() for path in sorted((self.env.home / "backups").glob("before-upgrade-*"))]


@pytest.fixture
def upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Upgrade:
    return Upgrade(dataclasses.replace(settings.KINDLING_ENV, home=tmp_path, database_url=""), monkeypatch)


def test_an_upgrade_that_keeps_failing_is_dumped_before_alone(upgrade: Upgrade):
    for _ in range(5):
        upgrade.fail()
    assert upgrade.dumps() == ["old"]
    upgrade.works = True
    schema_migrate(upgrade.env)
    assert upgrade.dumps() == ["old"]


def test_the_next_upgrade_has_a_dump_of_its_own(upgrade: Upgrade):
    upgrade.fail()
    # The version before is back, over the dump, and has been used.
    upgrade.content, upgrade.pending = "old, and a week", False
    schema_migrate(upgrade.env)
    upgrade.pending = True
    upgrade.fail()
    assert upgrade.dumps() == ["old", "old, and a week"]


def test_a_dump_that_is_gone_is_made_again(upgrade: Upgrade):
    upgrade.fail()
    for path in (upgrade.env.home / "backups").glob("before-upgrade-*"):
        path.unlink()
    upgrade.fail()
    assert upgrade.dumps() == ["half of old"]


@pytest.mark.django_db(transaction=True)
def test_a_migration_that_is_missing_is_seen_from_outside():
    made = connection.get_connection_params()
    url = psycopg.conninfo.make_conninfo(
        host=made["host"],
        port=made["port"],
        user=made["user"],
        password=made["password"],
        dbname=made["dbname"],
    )
    assert schema_is_current(url)
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, name FROM django_migrations WHERE app = 'keys' ORDER BY name DESC LIMIT 1")
        (row, name) = cursor.fetchone()
        cursor.execute("UPDATE django_migrations SET name = 'away' WHERE id = %s", [row])
        try:
            assert not schema_is_current(url)
        finally:
            cursor.execute("UPDATE django_migrations SET name = %s WHERE id = %s", [name, row])
    assert not schema_is_current(psycopg.conninfo.make_conninfo(url, dbname="postgres")), "it has no table"
    assert not schema_is_current("postgresql://nobody@127.0.0.1:1/none")


@pytest.fixture
def is_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bool]:
    monkeypatch.setattr(schema, "schema_is_current", lambda _url: True)
    monkeypatch.setitem(preparation.sys.modules, preparation.WORKERS, object())

    def look(model: str) -> bool:
        env = dataclasses.replace(settings.KINDLING_ENV, model=model)
        return preparation.is_prepared(Home(tmp_path), env)

    return look


def test_a_model_that_is_still_to_be_fetched_is_prepared_first(
    is_prepared: Callable[[str], bool], tmp_path: Path
):
    assert is_prepared("kindling/spark") and is_prepared("/data/model")
    assert not is_prepared("org/name")
    folder = tmp_path / "models/org--name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    Source("org/name", "abc", {"config.json": 2}).save(folder)
    assert is_prepared("org/name")
    (folder / "config.json").unlink()
    assert not is_prepared("org/name")
