"""A receiver of webhooks on the loopback, and endpoints that lead to it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.conf import settings

from kindling_platform.hooks.models import Delivery, Endpoint
from kindling_platform.hooks.places import Place
from kindling_platform.hooks.services import Wanted, endpoint_create

Answer = tuple[int, dict[str, str], bytes]


@dataclass(slots=True)
class Receiver:
    """What came in, and what is answered: `answer` decides by path."""

    port: int = 0
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[str], Answer] = lambda path: (200, {}, b"thanks")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.got]


@contextmanager
def receiver_running(*, tls: Any = None) -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.got.append(
                (self.path, {name.lower(): text for name, text in self.headers.items()}, body)
            )
            status, headers, said = receiver.answer(self.path)
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            # Whoever asked may have given up.
            with suppress(OSError):
                self.wfile.write(said)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    receiver.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def private_allowed(wanted: bool = True) -> Any:
    """The installation's settings with or without addresses of its own network."""
    return replace(settings.KINDLING_ENV, webhooks_private=wanted)


def hook(owner: Any, url: str = "https://hooks.example.com/in", **wanted: Any) -> tuple[Endpoint, str]:
    """An endpoint and its secret, as if its address had been looked up."""
    place = Place(url, "hooks.example.com", 443, ("93.184.215.14",))
    return endpoint_create(org=owner.org, place=place, wanted=Wanted(**wanted), actor=owner.actor)


def deliveries(endpoint: Endpoint) -> list[Delivery]:
    return list(Delivery.objects.filter(endpoint=endpoint).order_by("created_at", "id"))
