"""A client that does not read its answer: it is waited for, and then its place is somebody else's."""

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from kindling_gateway import GatewayServer, chat, eventually, start_gateway
from kindling_platform.gateway.watch import Watches
from kindling_spools import shipped_one


@pytest.fixture
def impatient(scene) -> Iterator[GatewayServer]:
    """A gateway that gives a reader half a second for what lies before it."""
    server = start_gateway(scene.world)
    server.gateway._watches = Watches(grace_s=1, write_timeout_s=0.5)
    with server as running:
        yield running


def ask(server: GatewayServer, key: str, **fields) -> socket.socket:
    """A request whose answer nobody reads yet, over a connection with a small buffer."""
    address = urlsplit(server.url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect((address.hostname, address.port))
    body = json.dumps(chat(max_tokens=4000, stream=True) | fields).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    connection.sendall(head.encode() + body)
    return connection


def test_one_that_reads_a_byte_now_and_then_loses_its_place(impatient: GatewayServer, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.word_bytes = 4000, 64 * 1024
    with ask(impatient, scene.key) as connection:
        head = connection.recv(1)
        eventually(lambda: scene.engine.active)

        def is_let_go() -> bool:
            connection.recv(1)
            return not scene.engine.active

        eventually(is_let_go, seconds=60)
    assert head == b"H"
    record = eventually(lambda: scene.engine.records)[0]
    assert record["finish"] == "cancelled"
    assert record["completion_tokens"] < 4000
    assert eventually(lambda: shipped_one(scene.world, record["request_id"])).verdict == "cut"


def test_the_last_bytes_hold_no_place_for_ever_either(impatient: GatewayServer, scene):
    # Room for the headers and a few events, none for the end: the engine is done long before the client.
    scene.engine.behaviour.tokens, scene.engine.behaviour.word_bytes = 12, 1024 * 1024
    with ask(impatient, scene.key):
        record = eventually(lambda: scene.engine.records)[0]
        assert eventually(lambda: shipped_one(scene.world, record["request_id"]))


def test_one_that_reads_slowly_but_steadily_gets_everything(server: GatewayServer, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.word_bytes = 60, 64 * 1024
    parts = []
    with ask(server, scene.key) as connection:
        while b"data: [DONE]" not in b"".join(parts[-2:]):
            parts.append(connection.recv(65536))
            assert parts[-1]
    assert len(b"".join(parts)) > 60 * 64 * 1024
    assert eventually(lambda: scene.engine.records)[0]["finish"] == "stop"
