"""What careless and hostile clients put on the wire: an error of the route's shape, no charge, no leak."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from kindling_gateway import GatewayServer, chat, eventually, held_nano
from kindling_platform.gateway import request as request_module
from kindling_platform.gateway.bodies import MOST_NODES, Bodies
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.routes import POST_PATHS, Action

PATHS = sorted(path for path, action in POST_PATHS.items() if action is not Action.CLIENT_TOKENS)
BODIES = {
    "nothing": b"",
    "a list": b"[1]",
    "half": b'{"model": "kindling/words"',
    "not utf-8": b'{"model": "\xff\xfe"}',
    "utf-16": '{"model": "kindling/words"}'.encode("utf-16"),
    "nan": b'{"model": "kindling/words", "temperature": NaN}',
    "infinity": b'{"model": "kindling/words", "temperature": -Infinity}',
    "deep": b'{"model":' * 10_000 + b"1" + b"}" * 10_000,
    "deep list": b"[" * 100_000,
    "two values": b'{"model": "a"} {"model": "b"}',
    "half a pair": b'{"model": "\\ud83d"}',
    "many objects": b'{"model": "kindling/words", "x": [' + b"{}," * MOST_NODES + b"{}]}",
    "many fields": b'{"model": "a"' + b"".join(b',"%x":0' % number for number in range(MOST_NODES)) + b"}",
}


def code_of(reply: httpx.Response) -> str:
    body = reply.json()
    error = body["error"]
    if body.get("type") == "error":
        assert body["request_id"] == reply.headers["x-request-id"]
        return str(error["type"])
    assert set(error) == {"message", "type", "param", "code", "doc_url"}
    return str(error["code"])


@pytest.fixture(autouse=True)
def nothing_is_charged(scene) -> Iterator[None]:
    yield
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})
    assert scene.engine.received == []


@pytest.mark.parametrize("path", PATHS)
def test_bodies_that_are_none(http: httpx.Client, path: str):
    for name, body in BODIES.items():
        reply = http.post(f"/v1/{path}", content=body)
        assert reply.status_code == 400, (name, reply.text)
        assert code_of(reply) in ("invalid_json", "invalid_request_error", "missing_field"), name


@pytest.mark.parametrize("path", [*PATHS, "client_tokens"])
def test_compressed_bodies_are_not_read(http: httpx.Client, path: str):
    reply = http.post(f"/v1/{path}", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert reply.status_code == 415
    assert code_of(reply) in ("unsupported_media_type", "invalid_request_error")
    assert "content-encoding" in reply.json()["error"]["message"]
    plain = http.post(f"/v1/{path}", content=b"{", headers={"content-encoding": "Identity"})
    assert plain.status_code == 400


TRANSLATED = {
    "messages": b'"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]',
    "responses": b'"input": "x"',
    "rerank": b'"query": "x", "documents": ["y"]',
}


@pytest.mark.parametrize("path", TRANSLATED)
@pytest.mark.parametrize("twist", [b', "model": "kindling/words"', b', "user": "\\udc00"', b', "x": 1e999'])
def test_translated_bodies_that_say_two_things_or_none(http: httpx.Client, path: str, twist: bytes):
    reply = http.post(
        f"/v1/{path}", content=b'{"model": "kindling/words", ' + TRANSLATED[path] + twist + b"}"
    )
    assert reply.status_code == 400, reply.text


def test_a_huge_integer_is_no_length(http: httpx.Client):
    for path, field in (("messages", "max_tokens"), ("responses", "max_output_tokens"), ("rerank", "top_n")):
        given = TRANSLATED[path].replace(b'"max_tokens": 5, ', b"")
        body = b'{"model": "kindling/words", %s, "%s": %s}' % (given, field.encode(), b"9" * 4_000)
        assert http.post(f"/v1/{path}", content=body).status_code == 400


HEAD = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"


def spoken(server: GatewayServer, data: bytes, *, seconds: float = 5) -> bytes:
    """What the server says to raw bytes until it hangs up or nothing comes for a while."""
    address = urlsplit(server.url)
    said = b""
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        try:
            while part := raw.recv(65536):
                said += part
        except TimeoutError:
            pass
    return said


@pytest.mark.parametrize(
    "lines",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 50\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\rb: c\r\n",
        "X\x00: a\r\n",
    ],
)
def test_a_smuggled_request_never_gets_an_answer_of_its_own(server: GatewayServer, scene, lines: str):
    """Front ends that read such heads otherwise would be told of a second request that nobody sent."""
    second = f"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {scene.key}\r\n\r\n"
    head = HEAD.format(key=scene.key) + lines + "\r\n"
    said = spoken(server, head.encode("latin-1") + b"0\r\n\r\n" + second.encode())
    assert said.count(b"HTTP/1.1 200") == 0, said


def test_headers_of_ours_from_outside_reach_no_engine(http: httpx.Client, scene):
    ours = {"x-kindling-grant": "99999", "x-kindling-tenant": "org_other", "x-kindling-context": "{}"}
    reply = http.post("/v1/chat/completions", json=chat("kindling/none"), headers=ours)
    assert reply.status_code == 404


def test_a_body_that_stalls_is_given_up(server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(request_module, "BODY_TIMEOUT_S", 0.3)
    length, chunked = "Content-Length: 99\r\n", "Transfer-Encoding: chunked\r\n"
    for path, encoding in (("chat/completions", length), ("messages", chunked), ("responses", length)):
        head = HEAD.format(key=scene.key).replace("chat/completions", path) + encoding + "\r\n"
        begun = b'5\r\n{"mod\r\n' if "chunked" in encoding else b'{"mod'
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port), timeout=60) as raw:
            raw.sendall(head.encode() + begun)
            said = b""
            while not (b"request_timeout" in said or b"timeout_error" in said) and (part := raw.recv(65536)):
                said += part
            assert said.startswith(b"HTTP/1.1 408"), said
            assert b"request_timeout" in said or b"timeout_error" in said


@pytest.mark.parametrize("cut", [1, 20, 60, 120, 200, -1])
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
def test_a_client_that_hangs_up_while_it_asks(server: GatewayServer, scene, path: str, cut: int):
    address = urlsplit(server.url)
    head = HEAD.format(key=scene.key).replace("chat/completions", path) + "Content-Length: 400\r\n\r\n"
    whole = head.encode() + b'{"model": "kindling/words", "max_tokens": 5, "input": "x", "messages": ['
    with socket.create_connection((address.hostname, address.port)) as raw:
        raw.sendall(whole[:cut])
    with server.client(scene.key) as http:  # the neighbours go on
        assert http.get("/v1/models").status_code == 200


def test_a_tool_that_is_only_repeated_has_to_be_writable(http: httpx.Client):
    """The model is not shown it, so that the engine never sees it; the answer would hold it."""
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    tools = b'{"type":"function","name":"a"},{"type":"function","name":"b","parameters":' + deep + b"}"
    choice = b'{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"a"}]}'
    body = b'{"model":"kindling/words","input":"x","tools":[' + tools + b'],"tool_choice":' + choice + b"}"
    reply = http.post("/v1/responses", content=body)
    assert (reply.status_code, code_of(reply)) == (400, "invalid_json")


def test_more_than_there_is_room_for_is_put_off(
    http: httpx.Client, server: GatewayServer, scene, monkeypatch
):
    bodies = Bodies(most_bytes=4 * 300_000)
    monkeypatch.setattr(server.gateway, "_bodies", bodies)
    large = chat(model="kindling/none", unknown="x" * 200_000)
    for _ in range(3):
        assert http.post("/v1/chat/completions", json=large).status_code == 404
    eventually(lambda: bodies.held_bytes == 0)
    org_id = scene.customer.id
    bodies.take(200_000, org_id)  # of another request
    with pytest.raises(GatewayError):
        bodies.take(200_000, org_id)
    bodies.take(200_000, "org_other")
    reply = http.post("/v1/chat/completions", json=large)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "overloaded")
    assert reply.headers["retry-after"]
    assert http.post("/v1/chat/completions", json=chat(model="kindling/none")).status_code == 404
    bodies.give(200_000, org_id)
    bodies.give(200_000, "org_other")
    assert http.post("/v1/chat/completions", json=large).status_code == 404
    eventually(lambda: bodies.held_bytes == 0)
