"""Our own Postgres and Valkey, as real processes."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.postgres import PostgresServer, remove_stale_pid_file
from kindling_platform.embedded.probes import database_version
from kindling_platform.embedded.servers import Servers
from kindling_platform.embedded.valkey import ValkeyServer
from kindling_services import cluster_template


def reachable(folder: Path) -> Path:
    """Started by root, the servers run as another account, which must be able to enter."""
    folder.chmod(0o755)
    return folder


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    template, password = cluster_template()
    hold = hold_port()
    folder = reachable(tmp_path_factory.mktemp("postgres"))
    server = PostgresServer(
        data_dir=folder / "data",
        port=hold.port,
        password=password,
        log_path=folder / "postgres.log",
        # A kill may lose nothing, so commits wait for the operating system; only the disk is not waited for.
        settings={"fsync": "off"},
        template=template,
    )
    server.start()
    yield server
    server.stop()
    hold.release()


@pytest.fixture
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    hold = hold_port()
    folder = reachable(tmp_path_factory.mktemp("valkey"))
    server = ValkeyServer(
        folder=folder / "data", port=hold.port, password="secret-of-the-test", log_path=folder / "valkey.log"
    )
    server.start()
    yield server
    server.stop()
    hold.release()


def test_postgres_makes_its_cluster_and_database(postgres: PostgresServer):
    with psycopg.connect(postgres.url()) as db:
        row = db.execute("SELECT current_database(), current_setting('listen_addresses')").fetchone()
    assert row == ("kindling", "127.0.0.1")


def test_postgres_refuses_a_wrong_password(postgres: PostgresServer):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url().replace(postgres.password, "wrong"))


def test_servers_of_the_users_own_are_asked_before_the_start_goes_on(
    postgres: PostgresServer, valkey: ValkeyServer
):
    own, hold = Servers(postgres=None, valkey=None), hold_port()
    own.own_check(database_url=postgres.url(), redis_url=valkey.url())
    nowhere = f"127.0.0.1:{hold.port}"
    for database_url, redis_url, code, name in (
        (
            f"postgresql://me:hunter2@{nowhere}/x",
            valkey.url(),
            "database_unreachable",
            "KINDLING_DATABASE_URL",
        ),
        (
            postgres.url().replace(postgres.password, "hunter2"),
            valkey.url(),
            "database_unreachable",
            "KINDLING_DATABASE_URL",
        ),
        (postgres.url(), f"redis://:hunter2@{nowhere}/0", "cache_unreachable", "KINDLING_REDIS_URL"),
        (
            postgres.url(),
            valkey.url().replace(valkey.password, "hunter2"),
            "cache_unreachable",
            "KINDLING_REDIS_URL",
        ),
    ):
        with pytest.raises(EmbeddedError, match=f"Mend {name}") as refused:
            own.own_check(database_url=database_url, redis_url=redis_url)
        assert refused.value.code == code and "hunter2" not in refused.value.message
    hold.release()


def starting_database(refusals: int, behind: int) -> tuple[str, threading.Thread]:
    """An address whose first connections are told that the server starts; the next one goes through to the server."""
    listener = socket.create_server(("127.0.0.1", 0))
    said = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"

    def serve() -> None:
        with listener:
            for _ in range(refusals):
                with listener.accept()[0] as client:
                    client.recv(1024)
                    client.sendall(b"E" + struct.pack("!i", len(said) + 4) + said)
            with listener.accept()[0] as client, socket.create_connection(("127.0.0.1", behind)) as server:
                pumps = [
                    threading.Thread(target=pump, args=pair) for pair in ((client, server), (server, client))
                ]
                for one in pumps:
                    one.start()
                for one in pumps:
                    one.join()

    def pump(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return f"127.0.0.1:{listener.getsockname()[1]}", thread


def test_a_database_of_the_users_own_that_is_starting_is_waited_for(postgres: PostgresServer):
    options = "?sslmode=disable&gssencmode=disable"
    address = f"127.0.0.1:{postgres.port}"
    refused, _ = starting_database(1, postgres.port)
    with pytest.raises(EmbeddedError, match="starting up"):
        database_version(postgres.url().replace(address, refused) + options)
    waiting, thread = starting_database(2, postgres.port)
    assert database_version(postgres.url().replace(address, waiting) + options, starting_s=60)[0].isdigit()
    thread.join(60)
    assert not thread.is_alive()


def test_servers_that_the_start_makes_are_not_asked_before(
    postgres: PostgresServer, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
):
    asked: list[str] = []
    for name in ("database_version", "cache_ping"):
        monkeypatch.setattr(f"kindling_platform.embedded.probes.{name}", lambda url, **_: asked.append(url))
    Servers(postgres=postgres, valkey=valkey).own_check(database_url="d", redis_url="r")
    assert asked == []
    Servers(postgres=None, valkey=None).own_check(database_url="d", redis_url="r")
    assert asked == ["d", "r"]


def test_postgres_keeps_what_was_committed_when_it_is_killed(postgres: PostgresServer):
    with psycopg.connect(postgres.url(), autocommit=True) as db:
        db.execute("CREATE TABLE kept (n int)")
        db.execute("INSERT INTO kept VALUES (7)")
    assert postgres.child is not None and postgres.child.pid is not None
    os.kill(postgres.child.pid, signal.SIGKILL)
    while postgres.child.is_alive() or not postgres.child.tend():
        time.sleep(0.01)
    postgres.wait_ready()
    with psycopg.connect(postgres.url()) as db:
        assert db.execute("SELECT n FROM kept").fetchone() == (7,)
    assert postgres.child.restarts >= 1


def test_second_postgres_on_the_same_folder_is_refused(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kindling_platform.embedded.postgres.OTHER_SERVER_GRACE_S", 0.1)
    assert postgres.child is not None
    with pytest.raises(EmbeddedError) as refused:
        remove_stale_pid_file(Path(postgres.child.command.argv[2]))
    assert refused.value.code == "postgres_running"


@pytest.mark.parametrize("owner", ["gone", "stranger", "garbage"])
def test_stale_pid_file_is_removed(tmp_path: Path, owner: str):
    pid_file = tmp_path / "postmaster.pid"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    text = {"gone": f"{gone.pid}\n{tmp_path}", "stranger": f"{os.getpid()}\n{tmp_path}", "garbage": "x"}
    pid_file.write_text(text[owner])
    remove_stale_pid_file(tmp_path)
    assert not pid_file.exists()


def test_valkey_answers_with_the_password_only(valkey: ValkeyServer):
    with redis.Redis.from_url(valkey.url()) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with (
        redis.Redis(port=valkey.port, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_passwords_are_not_on_any_command_line(postgres: PostgresServer, valkey: ValkeyServer):
    for server in (postgres, valkey):
        assert server.child is not None
        line = Path(f"/proc/{server.child.pid}/cmdline").read_bytes().decode()
        assert server.password not in line


def test_valkey_that_cannot_start_says_why(valkey: ValkeyServer, tmp_path: Path):
    reachable(tmp_path)
    second = ValkeyServer(
        folder=tmp_path / "second", port=valkey.port, password="x", log_path=tmp_path / "second.log"
    )
    with pytest.raises(EmbeddedError) as failed:
        second.start()
    assert failed.value.code == "valkey_failed"
    assert "in use" in failed.value.message


def test_servers_die_with_a_killed_parent(tmp_path_factory: pytest.TempPathFactory):
    folder = reachable(tmp_path_factory.mktemp("orphan"))
    program = """
import sys, pathlib
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.valkey import ValkeyServer
folder = pathlib.Path(sys.argv[1])
server = ValkeyServer(folder=folder / "data", port=hold_port().port, password="p", log_path=folder / "log")
server.start()
print(server.child.pid, flush=True)
sys.stdin.read()
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None and parent.stdin is not None
    pid = int(parent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    parent.stdin.close()
    parent.stdout.close()
    assert not Path(f"/proc/{pid}").exists()
