"""The server's own half of a request says what uvicorn's says, byte for byte."""

import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kindling_gateway import eventually
from kindling_platform.config.http_limits import BoundedHttp
from kindling_platform.gateway.request import Request

# Path: status, headers, and the parts of the body.
ANSWERS = {
    "/whole": (200, [(b"Content-Type", b"text/plain"), (b"content-length", b"4")], [b"whol"]),
    "/parts": (200, [(b"content-type", b"text/event-stream")], [b"one", b"", b"two"]),
    "/chunked": (200, [(b"Transfer-Encoding", b"chunked")], [b"one"]),
    "/nothing": (204, [], [b""]),
    "/same": (304, [(b"etag", b"x")], [b""]),
    "/empty": (200, [(b"content-length", b"0")], [b""]),
    "/odd": (299, [(b"x-odd", b"\xfc\xff ok")], [b"body"]),
    "/bye": (200, [(b"connection", b"Close"), (b"content-length", b"3")], [b"bye"]),
    "/long": (200, [(b"content-length", b"2")], [b"longer"]),
    "/short": (200, [(b"content-length", b"9")], [b"short"]),
    "/break": (200, [(b"x-break", b"a\r\nx-evil: b")], [b"body"]),
    "/null": (200, [(b"x-null", b"a\0b")], [b"body"]),
    "/early": (0, [], [b"body before its head"]),
    "/raises": (-1, [], []),
}


# What the gateway's own request replies.
REPLIES = {
    "/reply": (200, b'{"a": 1}', [(b"X-Odd", b"\xfc ok")]),
    "/reply-nothing": (200, b"", [(b"content-type", b"text/plain")]),
    "/reply-bye": (429, b"{}", [(b"connection", b"close")]),
    "/reply-break": (200, b"{}", [(b"x-break", b"a\r\nx-evil: b")]),
}


async def application(scope, receive, send) -> None:
    # The gateway's own request reads the body and replies: by the server where it offers that, else by ASGI.
    request = Request(scope, receive, send)
    request.id = "of the test"
    size = len(await request.body())
    if scope["path"] in REPLIES:
        await request.reply(*REPLIES[scope["path"]])
        return
    status, headers, parts = ANSWERS.get(scope["path"]) or (200, [], [f"{size} bytes".encode()])
    if status < 0:
        raise RuntimeError("as asked")
    if status:
        await send({"type": "http.response.start", "status": status, "headers": headers})
    for number, part in enumerate(parts):
        more = number < len(parts) - 1
        await send({"type": "http.response.body", "body": part, "more_body": more})


def served(protocol: type) -> Iterator[int]:
    config = uvicorn.Config(
        application,
        host="127.0.0.1",
        port=0,
        http=protocol,
        lifespan="off",
        log_level="critical",
        date_header=False,
        access_log=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(60)


@pytest.fixture(scope="module")
def ours() -> Iterator[int]:
    yield from served(BoundedHttp)


@pytest.fixture(scope="module")
def uvicorns() -> Iterator[int]:
    yield from served(HttpToolsProtocol)


def said(port: int, *parts: bytes) -> bytes:
    """All that the server says to a client that sends these parts and then has nothing more to send.

    One that expects to be told to go on waits for that: a body that is there already is read without a word.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        got = []
        for part in parts:
            connection.sendall(part)
            if b"100-continue" in part:
                got.append(connection.recv(65536))
        while part := connection.recv(65536):
            got.append(part)
        return b"".join(got)


def request(path: str, *, method: str = "GET", version: str = "1.1", headers: str = "") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nhost: x\r\n{headers}\r\n".encode()


LAST = request("/whole", headers="connection: close\r\n")


@pytest.mark.parametrize("path", [*ANSWERS, *REPLIES])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_kind_of_answer_is_the_same(ours: int, uvicorns: int, path: str, method: str):
    asked = request(path, method=method, headers="connection: close\r\n")
    assert said(ours, asked) == said(uvicorns, asked)


@pytest.mark.parametrize(
    "parts",
    [
        (request("/parts"), LAST),
        (request("/reply") + request("/parts") + request("/reply", method="HEAD") + LAST,),
        (request("/reply", version="1.0"),),
        (request("/reply", method="POST", headers="content-length: 3\r\n"), b"a", b"bc", LAST),
        (request("/parts") + request("/nothing") + request("/whole") + LAST,),
        (request("/whole", version="1.0"),),
        (request("/parts", version="1.0", headers="connection: keep-alive\r\n"),),
        (request("/size", method="POST", headers="content-length: 3\r\n") + b"abc" + LAST,),
        (request("/size", method="POST", headers="content-length: 3\r\n"), b"a", b"bc", LAST),
        (request("/size", method="POST", headers="content-length: 200000\r\n") + b"x" * 200_000 + LAST,),
        (
            request("/size", method="POST", headers="expect: 100-continue\r\ncontent-length: 3\r\n"),
            b"abc",
            LAST,
        ),
        (
            request("/size", method="POST", headers="transfer-encoding: chunked\r\n"),
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
            LAST,
        ),
        (b"nonsense\r\n\r\n",),
    ],
)
def test_every_kind_of_request_is_answered_the_same(ours: int, uvicorns: int, parts: tuple[bytes, ...]):
    assert said(ours, *parts) == said(uvicorns, *parts)


def test_no_header_of_an_answer_can_begin_another(ours: int):
    assert b"x-evil" not in said(ours, request("/break", headers="connection: close\r\n"))
