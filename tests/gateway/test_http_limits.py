"""The head of a request: not too large, and not for ever on its way."""

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn

from kindling_gateway import eventually
from kindling_platform.config.http_limits import MAX_HEAD_BYTES, BoundedHttp


async def application(scope, receive, send) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    body = str(size).encode()
    if scope["path"] == "/client":
        body = b"%s %d" % (scope["client"][0].encode(), len(scope["headers"]))
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
    )
    await send({"type": "http.response.body", "body": body})


class Hasty(BoundedHttp):
    head_timeout_s = 1.0


class Forgetful(BoundedHttp):
    keep_alive_s = 0.1


def served(protocol: type[BoundedHttp], *, keep_alive_s: int = 0) -> Iterator[int]:
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, http=protocol, lifespan="off", log_level="error",
        timeout_keep_alive=keep_alive_s,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(60)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    yield from served(BoundedHttp)


@pytest.fixture(scope="module")
def hasty_port() -> Iterator[int]:
    yield from served(Hasty)


def answer(connection: socket.socket) -> bytes:
    """Everything until the server hangs up."""
    connection.settimeout(60)
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


def test_ordinary_requests_pass_also_with_large_bodies_and_on_a_kept_connection(port: int):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        for size in (0, 1, 300_000, 5_000_000):
            assert http.post("/", content=b"x" * size).text == str(size)
        assert http.get("/", headers={"x-long": "y" * (MAX_HEAD_BYTES - 2000)}).status_code == 200


def test_a_proxy_on_this_machine_says_who_its_client_is(port: int):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        for headers, client in (
            ({}, "127.0.0.1"),
            ({"X-Forwarded-For": "203.0.113.7"}, "203.0.113.7"),
            ({"X-Forwarded-Proto": "https"}, "127.0.0.1"),
            ({}, "127.0.0.1"),
        ):
            assert http.get("/client", headers=headers).text.split()[0] == client


@pytest.mark.parametrize(
    "head", ["x-one: " + "y" * MAX_HEAD_BYTES, "\r\n".join(["x-many: " + "y" * 500] * 200)]
)
def test_large_headers_are_refused_once_they_are_complete(port: int, head: str):
    with connect(port) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n".encode())
        assert answer(connection).startswith(b"HTTP/1.1 431 ")


def test_headers_that_never_end_are_refused_before_they_fill_the_memory(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-endless: ")
        sent = 0
        try:
            while sent < 50 * MAX_HEAD_BYTES:
                sent += connection.send(b"y" * 8192)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert sent < 50 * MAX_HEAD_BYTES


@pytest.mark.parametrize("parts", [1, 3])
def test_trailers_say_nothing(port: int, parts: int):
    asked = (
        b"POST /client HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 203.0.113.7\r\ntransfer-encoding: chunked\r\n\r\n",
        b"2\r\nab\r\n0\r\n",
        b"x-forwarded-for: 198.51.100.1\r\nauthorization: Bearer none\r\n\r\n",
    )
    with connect(port) as connection:
        for part in asked if parts == 3 else (b"".join(asked),):
            connection.sendall(part)
        told = b""
        while not told.endswith(b"3"):
            told += connection.recv(65536)
        assert told.endswith(b"203.0.113.7 3")


@pytest.mark.parametrize("trailer", [b"x: " + b"y" * 2000 + b"\r\n", b"y" * 2000])
def test_trailers_that_never_end_are_refused_before_they_fill_the_memory(port: int, trailer: bytes):
    with connect(port) as connection:
        connection.sendall(
            b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-endless: "
        )
        sent = 0
        try:
            while sent < 50 * MAX_HEAD_BYTES:
                sent += connection.send(trailer * 4)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert sent < 50 * MAX_HEAD_BYTES


def test_a_body_in_small_chunks_passes(port: int):
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        assert http.post("/", content=(b"x" for _ in range(MAX_HEAD_BYTES // 8))).text == str(
            MAX_HEAD_BYTES // 8
        )


def test_a_client_that_sends_nothing_is_let_go(hasty_port: int):
    with connect(hasty_port) as connection:
        assert answer(connection) == b""


def test_a_client_that_sends_its_headers_drop_by_drop_is_let_go(hasty_port: int):
    with connect(hasty_port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n")
        assert answer(connection).startswith(b"HTTP/1.1 408 ")


def test_a_request_that_has_arrived_may_take_its_time(hasty_port: int):
    with connect(hasty_port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na")
        # Another client's whole wait passes meanwhile.
        test_a_client_that_sends_nothing_is_let_go(hasty_port)
        connection.sendall(b"b")
        connection.settimeout(60)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_an_idle_connection_outlives_those_of_clients_and_proxies():
    closed_after_s = []
    for protocol in (Forgetful, BoundedHttp):
        for port in served(protocol):
            with connect(port) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
                while b"\r\n\r\n0" not in connection.recv(65536):
                    pass
                connection.settimeout(60 if protocol is Forgetful else 1)
                try:
                    assert connection.recv(1) == b""
                    closed_after_s.append(protocol.keep_alive_s)
                except TimeoutError:
                    pass
    assert closed_after_s == [Forgetful.keep_alive_s]
    assert BoundedHttp.keep_alive_s > 120
