"""A gateway on Valkey's machine talks to it over its Unix socket, and to nobody else's."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.valkey import SOCKET, ValkeyServer
from kindling_platform.gateway.valkey import Valkey, ValkeyUnavailableError

SCRIPTS = {"who": "return redis.call('INCR', KEYS[1])"}
PASSWORD = "secret-of-the-test"


@contextmanager
def server_running(folder: Path) -> Iterator[ValkeyServer]:
    folder.chmod(0o755)  # started by root, the server runs as another account
    hold = hold_port()
    server = ValkeyServer(
        folder=folder / "data", port=hold.port, password=PASSWORD, log_path=folder / "valkey.log"
    )
    server.start()
    try:
        yield server
    finally:
        server.kill()
        hold.release()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with server_running(tmp_path_factory.mktemp("valkey")) as running:
        yield running


def ways(url: str, server: ValkeyServer, *, restart: bool = False) -> set[str]:
    """By which address of the server the client at `url` asks it."""

    async def look() -> set[str]:
        valkey = Valkey(url, SCRIPTS)
        await valkey.open()
        try:
            await valkey.run("who", ["count"], [])
            if restart:
                server.kill()
                await asyncio.to_thread(server.start)
                await answer_of(valkey)
            with redis.Redis.from_url(server.url()) as other:
                # Brackets stand around whatever has a colon in it.
                seen = [one["laddr"].strip("[]") for one in other.client_list() if one["cmd"] == "evalsha"]
                return {one.removesuffix(":0").removesuffix("]").removesuffix(":0") for one in seen}
        finally:
            await valkey.close()

    return asyncio.run(look())


async def answer_of(valkey: Valkey) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await valkey.run("who", ["count"], [])
                return
            except ValkeyUnavailableError:
                await asyncio.sleep(0.01)


def socket_path(server: ValkeyServer) -> Path:
    return server.folder / SOCKET


def test_the_socket_is_found_and_taken(server: ValkeyServer):
    assert ways(server.url(), server) == {str(socket_path(server))}


def test_who_stands_between_hears_everything(server: ValkeyServer):
    proxy, url = FaultProxy.before(server.url())
    try:
        assert ways(url, server) == {f"127.0.0.1:{server.port}"}
    finally:
        proxy.stop()


def test_a_socket_that_is_gone_is_done_without(server: ValkeyServer):
    socket_path(server).unlink()
    assert ways(server.url(), server) == {f"127.0.0.1:{server.port}"}


def test_another_servers_socket_under_the_path_is_left_alone(
    server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
):
    with server_running(tmp_path_factory.mktemp("other")) as other:
        socket_path(server).unlink()
        socket_path(server).symlink_to(socket_path(other))
        assert ways(server.url(), server) == {f"127.0.0.1:{server.port}"}


def test_a_server_that_keeps_its_settings_to_itself_is_reached_by_its_url(server: ValkeyServer):
    with redis.Redis.from_url(server.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", f">{PASSWORD}", "~*", "+@all", "-config")
    url = server.url().replace("redis://:", "redis://app:")
    assert ways(url, server) == {f"127.0.0.1:{server.port}"}


def test_after_a_restart_the_socket_is_found_again(server: ValkeyServer):
    assert ways(server.url(), server, restart=True) == {str(socket_path(server))}


def test_where_the_path_is_too_long_there_is_no_socket(tmp_path_factory: pytest.TempPathFactory):
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("valkey") / ("deep" * 25)
        folder.mkdir()
        folder.parent.chmod(0o755)
        server = stack.enter_context(server_running(folder))
        assert ways(server.url(), server) == {f"127.0.0.1:{server.port}"}
