"""One exchange, and the three ways in which it fails."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from kindling_workers.http import HttpBroken, HttpUnreachable, http_call


@contextmanager
def server(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A listener that treats one connection as it is told."""
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            line, _ = door.accept()
            with line:
                line.recv(65536)
                answer(line)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        thread.join()


def test_an_answer_comes_whole():
    reply = b"HTTP/1.1 409 Conflict\r\ncontent-length: 5\r\n\r\nhello"
    with server(lambda line: line.sendall(reply)) as url:
        answer = http_call("PUT", f"{url}/a?b=1", body=b"{}")
    assert (answer.status, answer.body) == (409, b"hello")


def test_nobody_listens():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(HttpUnreachable) as failure:
            http_call("GET", f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert not isinstance(failure.value, HttpBroken)


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal", b"nonsense\r\n\r\n"]
)
def test_the_other_side_hangs_up(said: bytes):
    with server(lambda line: line.sendall(said)) as url, pytest.raises(HttpBroken):
        http_call("POST", f"{url}/", body=b"{}")


def test_silence_is_not_a_hang_up():
    over = threading.Event()
    with server(lambda _: over.wait(10)) as url:
        with pytest.raises(HttpUnreachable, match="no answer within") as failure:
            http_call("GET", f"{url}/", timeout_s=0.1)
        over.set()
    assert not isinstance(failure.value, HttpBroken)
