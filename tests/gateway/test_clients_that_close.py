"""A client that closes at any point of any answer: the engine stops, the bill is the engine's count, nothing stays."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import orjson
import pytest

from kindling_gateway import GatewayServer, eventually, held_nano
from kindling_spools import billed, shipped

BODIES = {
    "chat/completions": {"max_tokens": 3000, "messages": [{"role": "user", "content": "x"}]},
    "completions": {"max_tokens": 3000, "prompt": "x"},
    "messages": {"max_tokens": 3000, "messages": [{"role": "user", "content": "x"}]},
    "responses": {"max_output_tokens": 3000, "input": "x"},
}
# Inside the status line, between headers, inside and between events.
POINTS = [0, 1, 9, 17, *range(40, 2200, 90)]


def head_of(path: str, key: str, body: bytes) -> bytes:
    lines = [
        f"POST /v1/{path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@contextmanager
def asked(server: GatewayServer, key: str, path: str, **fields: object) -> Iterator[socket.socket]:
    """A connection over which a whole request was sent; closed at the end of the block."""
    body = orjson.dumps({"model": "kindling/words", **BODIES[path], **fields})
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
        raw.sendall(head_of(path, key, body) + body)
        yield raw


@pytest.mark.parametrize("path", BODIES)
def test_closing_in_the_middle_ends_the_request(server: GatewayServer, scene, path: str):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.002
    for number, after_bytes in enumerate(POINTS, start=1):
        with asked(server, scene.key, path, stream=True) as raw:
            eventually(lambda seen=number: len(scene.engine.received) == seen)
            heard = 0
            while heard < after_bytes:
                heard += len(raw.recv(after_bytes - heard))
        eventually(lambda seen=number: len(scene.engine.records) == seen)
    records = scene.engine.records
    assert {record["finish"] for record in records} == {"cancelled"}
    assert max(record["completion_tokens"] for record in records) < 3000
    eventually(lambda: scene.engine.active == {})
    made = {record["request_id"]: record["completion_tokens"] for record in records}
    assert len(made) == len(POINTS)
    rows = eventually(lambda: found if made.keys() <= (found := shipped(scene.world)).keys() else None)
    assert billed({one: rows[one] for one in made}, records) == made
    assert set(held_nano(scene.valkey, scene.customer)) <= made.keys()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_closing_at_the_very_end_is_billed_as_any_other(
    server: GatewayServer, scene, path: str, stream: bool
):
    """The engine is done before the client, which reads all but the last bytes or nothing at all."""
    for number, reads_all in enumerate((False, True), start=1):
        with asked(server, scene.key, path, stream=stream) as raw:
            eventually(lambda seen=number: len(scene.engine.records) == seen)
            if reads_all:
                raw.recv(65536)
    made = {record["request_id"]: record["completion_tokens"] for record in scene.engine.records}
    rows = eventually(lambda: found if made.keys() <= (found := shipped(scene.world)).keys() else None)
    assert billed({one: rows[one] for one in made}, scene.engine.records) == made
    assert set(made.values()) == {8}


@pytest.mark.parametrize("path", ["messages", "responses"])
def test_a_response_whose_client_has_left_is_not_kept(server: GatewayServer, scene, path: str):
    scene.engine.behaviour.first_delay_s = 30
    with asked(server, scene.key, path):
        eventually(lambda: scene.engine.active)
    eventually(lambda: not scene.engine.active)
    kept = "SELECT count(*) FROM responses_storedresponse WHERE organisation_id = %s"
    assert scene.world.value(kept, scene.customer.id) == 0
