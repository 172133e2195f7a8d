"""Calls to our own stack: no proxy of the environment stands in between, and no broken answer is an exception."""

import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from kindling_platform.cli.client import Client
from kindling_platform.cli.credentials import Credentials
from kindling_platform.embedded.children import child_env
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.first_token import first_token_get
from kindling_platform.embedded.rest import call


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self) -> None:
        """An answer that ends before it said it would."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b'2a\r\ndata: {"choices"')

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on the loopback, and an environment whose proxy nobody reaches."""
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    # The library asks the environment once, for whoever calls first.
    monkeypatch.setattr(urllib.request, "_opener", None)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_our_own_stack_is_called_without_a_proxy(url: str):
    assert call(f"{url}/healthz", token="secret").status == 200


def test_the_command_line_calls_a_stack_of_this_machine_without_a_proxy(url: str):
    assert Client(Credentials(url, "kd_live_x")).get("/api/v1/models") == {}
    assert Client(Credentials(url.replace("127.0.0.1", "localhost"), "kd_live_x")).get("/") == {}


def test_children_find_each_other_without_a_proxy(monkeypatch: pytest.MonkeyPatch):
    for given, found in (("", "127.0.0.1,localhost,::1"), ("a.b", "a.b,127.0.0.1,localhost,::1"), ("*", "*")):
        monkeypatch.setenv("NO_PROXY", given)
        monkeypatch.delenv("no_proxy", raising=False)
        assert child_env()["no_proxy"] == found == child_env()["NO_PROXY"]


def test_an_answer_that_breaks_off_is_a_sentence(url: str):
    with pytest.raises(EmbeddedError, match="broke off") as failed:
        first_token_get(url=url, key="k", model="m", timeout_s=5)
    assert failed.value.code == "first_token_failed"
