"""The server's HTTP protocol with bounds on the head of a request: its size, and how long it may take to arrive.

uvicorn has neither, so that a client could fill the memory with headers, or hold connections by sending none. It also
takes trailers behind a body for headers: here they say nothing, and neither they nor the sizes of chunks fill the
memory. Between requests a connection stays open for longer than uvicorn keeps it. It also offers what spares the
gateway work (`gateway.request.Server`): the body at once where it has come with its head, and a call when a client
goes, where uvicorn has a task wait for that.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from kindling_platform.config.http_cycle import Cycle
from kindling_platform.gateway.request import SERVER

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 15.0
# Longer than clients and proxies keep a connection: we must not be the first to close it, just as the other side sends
# a request that it may not send twice. Caddy keeps one for two minutes, others for one.
KEEP_ALIVE_S = 150.0
# The only headers for which uvicorn's middleware does anything; for whether it may, it parses the client's address.
FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto"})


class HeadTooLargeError(httptools.HttpParserError):
    """The request line and the headers are larger than anyone needs."""


class BoundedHttp(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn types httptools as Any
    """``uvicorn --http kindling_platform.config.http_limits:BoundedHttp``."""

    head_timeout_s = HEAD_TIMEOUT_S
    keep_alive_s = KEEP_ALIVE_S
    timeout_keep_alive: float
    app: Any
    cycle: Any
    scope: Any

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timeout_keep_alive = max(self.timeout_keep_alive, self.keep_alive_s)
        self._in_head = True
        self._head_bytes = 0
        self._beside_body = 0
        self._timer: asyncio.TimerHandle | None = None
        self._gone: Callable[[], None] | None = None
        self._whole_app = self.app
        self._bare_app = self.app.app if isinstance(self.app, ProxyHeadersMiddleware) else self.app

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
        self._say_gone()
        # Both know the connection: without this only the collector would free it, a good while later.
        self.cycle = self.scope = None

    def data_received(self, data: bytes) -> None:
        """Count what comes before the end of the headers, and behind it what is no body; what shares a part is free."""
        self._beside_body += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, b"The headers of this request are too large.")
            elif self._timer is None:
                self._wait_for_head()
        elif self._beside_body > MAX_HEAD_BYTES:
            self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes, self._beside_body = True, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._beside_body = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        size = len(self.url)
        self.app = self._bare_app
        for name, value in self.headers:
            size += len(name) + len(value)
            if name in FORWARDED:
                self.app = self._whole_app
        if size > MAX_HEAD_BYTES:
            self._refuse(431, b"The headers of this request are too large.")
            raise HeadTooLargeError
        self.scope[SERVER] = self
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.__class__ = Cycle  # uvicorn has no setting for it

    def send_400_response(self, msg: str) -> None:
        if not self.transport.is_closing():
            super().send_400_response(msg)

    def body_of(self, scope: Any) -> bytes | None:
        """The whole body of the request that runs, if all of it is there."""
        cycle = self.cycle
        if cycle is None or cycle.scope is not scope or cycle.more_body or cycle.disconnected:
            return None
        body, cycle.body = bytes(cycle.body), bytearray()
        return body

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call when the client closes the connection; None ends that."""
        self._gone = callback
        if callback is None:
            return
        if self.transport.is_closing():
            self.loop.call_soon(self._say_gone)
        else:
            self.flow.resume_reading()  # a large body may have paused it, and then nobody would hear of an end

    def answer(self, scope: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        """Send a whole answer to the request that runs; False when something else has to be sent before."""
        cycle = self.cycle
        if cycle is None or cycle.scope is not scope or cycle.response_started or self.flow.write_paused:
            return False
        cycle.answer(status, headers, body)
        return True

    def _say_gone(self) -> None:
        gone, self._gone = self._gone, None
        if gone:
            gone()

    def _wait_for_head(self) -> None:
        self._timer = self.loop.call_later(self.head_timeout_s, self._expire)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        if self._head_bytes:
            self._refuse(408, b"The headers of this request did not arrive in time.")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: bytes) -> None:
        size = str(len(message)).encode()
        head = [
            STATUS_LINE[status],
            b"content-type: text/plain; charset=utf-8\r\n",
            *(b"content-length: ", size, b"\r\nconnection: close\r\n\r\n"),
        ]
        self.transport.write(b"".join([*head, message]))
        self.transport.close()
