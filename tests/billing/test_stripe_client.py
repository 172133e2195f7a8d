"""Stripe's client as it is set up here."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from kindling_billing.stripe_api.client import StripeApi

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Answer(BaseHTTPRequestHandler):
    """A Stripe with nothing in it."""

    def do_GET(self) -> None:
        body = b'{"object": "list", "data": [], "has_more": false, "url": "/v1/customers"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stand_in() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_stand_in_on_this_machine_is_asked_without_the_environments_proxy(
    stand_in: str, monkeypatch: pytest.MonkeyPatch
):
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    api = StripeApi("sk_test_x", api_base=stand_in)
    assert api.rows(lambda params: api.v1.customers.list(params), {}) == []
