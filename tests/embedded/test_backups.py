"""Backup and restore of a throw-away installation: a real cluster, real dumps, a second state folder."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from kindling_platform.embedded.backups.backup import backup_make, database_running
from kindling_platform.embedded.backups.dumps import database_fill
from kindling_platform.embedded.backups.restore import MARKER, backup_restore, restore_check
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock
from kindling_platform.embedded.ports_file import ports_hold
from kindling_platform.embedded.preparation import last_object, run_django
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers

PHRASE = "a passphrase of the test"
LEDGER = "SELECT id, transaction_id, account_id, amount_picousd FROM billing_ledgerentry ORDER BY id"
NEWEST = "SELECT count(*) FROM django_migrations WHERE app = 'deployments' AND name >= '0006'"
NEWER = "INSERT INTO django_migrations (app, name, applied) VALUES ('accounts', '9999_later', now())"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An installation with a schema, an operator, a price and credit, stopped; tests take copies."""
    folder = tmp_path_factory.mktemp("finished")
    open_to_the_database(folder)
    made = Home(folder / "home")
    with environ_without_ours():
        made.make()
        holds = ports_hold(made)
        server = Servers.plan(made, read_ports(made), secrets_ensure(made.secrets)).postgres
        assert server is not None
        server.start()
        server.stop()
        prepare(made, "bootstrap", "--migrate")
    for hold in holds.values():
        hold.release()
    (made.path / "blobs" / "ab12").mkdir()
    (made.path / "blobs" / "ab12" / "adapter_model.safetensors").write_bytes(b"weights" * 1000)
    (made.path / "usage" / "0001.jsonl").write_text('{"event": 1}\n')
    return made


@pytest.fixture
def home(tmp_path: Path, finished: Home) -> Iterator[Home]:
    """A copy of the finished installation, with the modes and owners that its database wants."""
    open_to_the_database(tmp_path)
    subprocess.run(["cp", "-a", finished.path, tmp_path / "home"], check=True)
    with environ_without_ours():
        yield Home(tmp_path / "home")


def open_to_the_database(folder: Path) -> None:
    """Let others through to a folder: where the database's user cannot come, it is put elsewhere, and a copy of the
    folder would not hold it.
    """
    for one in (folder, *folder.parents):
        if Path(tempfile.gettempdir()) not in one.parents:
            return
        one.chmod(0o755)


@contextmanager
def environ_without_ours() -> Iterator[None]:
    """Commands set the addresses of their servers; the session's own come back afterwards."""
    kept = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("KINDLING_")]:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def prepare(home: Home, *command: str) -> dict[str, object]:
    """Run a management command on a stopped installation, as `up` does."""
    servers = Servers.plan(home, read_ports(home), secrets_ensure(home.secrets))
    environ = servers.environ() | {"KINDLING_HOME": str(home.path)}
    with database_running(home):
        os.environ.update(environ)
        done = run_django(home, "prepare", *command)
    for name in environ:
        del os.environ[name]
    found = last_object(done.stdout)
    assert found is not None, home.log("prepare").read_text()[-2000:]
    return found


def read_ports(home: Home) -> dict[str, int]:
    return dict(json.loads(home.ports.read_text()))


def ask(home: Home, query: str) -> list[tuple[object, ...]]:
    with database_running(home) as url, psycopg.connect(url) as db:
        done = db.execute(query)
        return done.fetchall() if done.description else []


def restored(tmp_path: Path, source: Path, phrase: str = "") -> tuple[Home, dict[str, object]]:
    home = Home(tmp_path / "elsewhere")
    proof = backup_restore(home, source, passphrase=phrase)
    os.environ.pop("KINDLING_DATABASE_URL", None)
    os.environ.pop("KINDLING_REDIS_URL", None)
    return home, proof


def test_sealed_backup_becomes_the_same_installation(home: Home, tmp_path: Path):
    entries = ask(home, "SELECT id, amount_picousd FROM billing_ledgerentry ORDER BY id")
    assert entries
    file = backup_make(home, passphrase=PHRASE)
    assert file.stat().st_mode & 0o077 == 0
    secret = secrets_ensure(home.secrets)["KINDLING_KEY_PEPPER"]
    assert secret.encode() not in file.read_bytes()

    with pytest.raises(EmbeddedError) as refused:
        restored(tmp_path, file, "another passphrase")
    assert refused.value.code == "passphrase_wrong"
    with pytest.raises(EmbeddedError) as refused:
        restore_check(Home(tmp_path / "elsewhere"))
    assert refused.value.code == "restore_unfinished"

    other, proof = restored(tmp_path, file, PHRASE)
    assert proof["checks"] and not any(dict(proof["checks"]).values())  # type: ignore[call-overload]
    assert ask(other, "SELECT id, amount_picousd FROM billing_ledgerentry ORDER BY id") == entries
    assert other.secrets.read_text() == home.secrets.read_text()
    weights = Path("blobs/ab12/adapter_model.safetensors")
    assert (other.path / weights).read_bytes() == (home.path / weights).read_bytes()
    assert (other.path / "usage" / "0001.jsonl").exists()
    assert not (other.path / MARKER).exists()

    with pytest.raises(EmbeddedError) as refused:
        backup_restore(other, file, passphrase=PHRASE)
    assert refused.value.code == "home_not_empty"


def test_newer_schema_is_refused_and_an_older_one_dumped_before_it_changes(home: Home):
    assert not list(home.path.glob("backups/before-upgrade-*"))
    ask(home, NEWER)
    refused = prepare(home, "bootstrap", "--migrate")
    assert dict(refused["error"])["code"] == "schema_newer"  # type: ignore[call-overload]
    ask(home, "DELETE FROM django_migrations WHERE name = '9999_later'")

    # What an older version left: the migration is not recorded, and what it makes is not there.
    ask(home, "DROP TABLE django_session; DELETE FROM django_migrations WHERE app = 'sessions'")
    assert "error" not in prepare(home, "bootstrap", "--migrate")
    (dump,) = home.path.glob("backups/before-upgrade-*")
    assert dump.read_bytes().startswith(b"PGDMP")
    assert ask(home, "SELECT count(*) FROM django_session") == [(0,)]


def migrate_back(home: Home) -> None:
    """What the version before has left: its schema, with everything that is in it."""
    servers = Servers.plan(home, read_ports(home), secrets_ensure(home.secrets))
    environ = servers.environ() | {"KINDLING_HOME": str(home.path)}
    with database_running(home):
        os.environ.update(environ)
        done = run_django(home, "migrate", "migrate", "deployments", "0005")
    for name in environ:
        del os.environ[name]
    assert done.returncode == 0, home.log("migrate").read_text()[-2000:]


def test_an_upgrade_keeps_the_books_and_can_be_gone_back_from(home: Home):
    books = ask(home, LEDGER)
    assert books
    migrate_back(home)
    assert ask(home, NEWEST) == [(0,)]
    assert not list(home.path.glob("backups/before-upgrade-*"))

    assert "error" not in prepare(home, "bootstrap", "--migrate")
    assert ask(home, NEWEST)[0][0] > 0
    assert ask(home, LEDGER) == books
    (dump,) = home.path.glob("backups/before-upgrade-*")

    # Emptied first: what only the newer version has made would be in the way of the next upgrade.
    with database_running(home) as url:
        with psycopg.connect(url) as db:
            db.execute("DROP SCHEMA public CASCADE")
            db.execute("CREATE SCHEMA public")
        database_fill(url, dump)
    assert ask(home, NEWEST) == [(0,)]
    assert ask(home, LEDGER) == books

    assert "error" not in prepare(home, "bootstrap", "--migrate")
    assert ask(home, NEWEST)[0][0] > 0
    assert ask(home, LEDGER) == books
    assert prepare(home, "prove_restored")["checks"]


def test_only_the_newest_are_kept(home: Home):
    first, second, third = (backup_make(home, keep=2) for _ in range(3))
    assert sorted(first.parent.glob("*.backup")) == sorted([second, third])


@pytest.mark.parametrize("has_tables", [False, True])
def test_an_installation_without_a_database_is_not_backed_up_and_old_backups_stay(
    home: Home, has_tables: bool
):
    (home.path / "backups").mkdir(exist_ok=True)
    good = home.path / "backups/kindling-20260101T000000.000000Z.backup"
    good.write_bytes(b"a good one")
    if has_tables:
        ask(home, "DROP TABLE django_migrations")
    else:
        (home.path / "postgres").rename(home.path / "elsewhere")
    for _ in range(2):
        with pytest.raises(EmbeddedError) as refused:
            backup_make(home, keep=1)
        assert refused.value.code == "nothing_here"
    assert list(good.parent.iterdir()) == [good]
    assert has_tables or not (home.path / "postgres").exists()


def test_what_a_killed_backup_left_is_cleared_and_one_that_runs_is_let_be(home: Home):
    left = home.path / ".backup-killed"
    left.mkdir()
    (left / "database.dump").write_bytes(b"half")
    running = HomeLock(home, what="A backup", path=home.backup_lock)
    running.take()
    with pytest.raises(EmbeddedError, match="A backup is running") as busy:
        backup_make(home)
    assert busy.value.code == "busy" and left.exists()
    running.release()
    assert backup_make(home).exists() and not left.exists()


def test_nothing_to_back_up_is_said(tmp_path: Path):
    with pytest.raises(EmbeddedError) as refused:
        backup_make(Home(tmp_path))
    assert refused.value.code == "nothing_here"
