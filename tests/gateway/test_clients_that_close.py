"""A client that closes at any point of a translated answer: the engine stops, nothing is left running or held."""

import socket
from urllib.parse import urlsplit

import orjson
import pytest

from kindling_gateway import GatewayServer, eventually, held_nano

BODIES = {
    "messages": {"max_tokens": 3000, "messages": [{"role": "user", "content": "x"}]},
    "responses": {"max_output_tokens": 3000, "input": "x"},
}


def head_of(path: str, key: str, body: bytes) -> bytes:
    lines = [
        f"POST /v1/{path} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("after_bytes", [0, 1, 300, 900, 2000])
@pytest.mark.parametrize("path", BODIES)
def test_closing_in_the_middle_ends_the_request(server: GatewayServer, scene, path: str, after_bytes: int):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 3000, 0.002
    body = orjson.dumps({"model": "kindling/words", "stream": True, **BODIES[path]})
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        raw.sendall(head_of(path, scene.key, body) + body)
        eventually(lambda: scene.engine.received)
        heard = 0
        while heard < after_bytes:
            heard += len(raw.recv(100))
    (record,) = eventually(lambda: scene.engine.records, seconds=10)
    assert record["finish"] == "cancelled"
    assert record["completion_tokens"] < 3000
    assert scene.engine.active == {}
    assert set(held_nano(scene.valkey, scene.customer)) <= {record["request_id"]}


@pytest.mark.parametrize("path", BODIES)
def test_a_response_whose_client_has_left_is_not_kept(server: GatewayServer, scene, path: str):
    scene.engine.behaviour.first_delay_s = 30
    body = orjson.dumps({"model": "kindling/words", **BODIES[path]})
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as raw:
        raw.sendall(head_of(path, scene.key, body) + body)
        eventually(lambda: scene.engine.active)
    eventually(lambda: not scene.engine.active)
    kept = "SELECT count(*) FROM responses_storedresponse WHERE organisation_id = %s"
    assert scene.world.value(kept, scene.customer.id) == 0
