"""One request and its answer in the server, where each header and each part of a stream passes.

uvicorn matches every header against two patterns and writes head and body apart: a system call more, and a client that
wakes up twice. Here all headers are looked at in one go, for nothing but what could begin a header of its own, and the
head waits for the body that follows in the same turn of the loop.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

WITHOUT_BODY = (204, 304)


class Cycle(RequestResponseCycle):  # type: ignore[misc]  # uvicorn types httptools as Any
    """What uvicorn's cycle does; nothing is written to uvicorn's own access log."""

    head = b""
    keep_alive: bool
    response_complete: bool
    chunked_encoding: bool | None
    expected_content_length: int

    async def send(self, message: Any) -> None:
        """Take a message of ASGI's. Errors: RuntimeError for one that is out of turn."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        kind = message["type"]
        if kind == "http.response.start" and not self.response_started:
            self._begin(message["status"], message.get("headers", ()))
            asyncio.get_running_loop().call_soon(self._flush)
        elif kind == "http.response.body" and self.response_started and not self.response_complete:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))
        else:
            raise RuntimeError(f"The ASGI message {kind!r} is out of turn.")

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
        """Send an answer whose body is known, as both messages would. Errors: as of `send`."""
        if not self.disconnected:
            self._begin(status, headers)
            self._go_on(body, is_last=True)

    def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        every = [(name.lower(), value) for name, value in (*self.default_headers, *headers)]
        lines = [b"%b: %b\r\n" % pair for pair in every]
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("A header of the answer holds a line break or a null.")
        says_close = False
        for name, value in every:
            match name:
                case b"content-length" if self.chunked_encoding is None:
                    self.expected_content_length, self.chunked_encoding = int(value), False
                case b"transfer-encoding" if value.lower() == b"chunked":
                    self.expected_content_length, self.chunked_encoding = 0, True
                case b"connection" if b"close" in value.lower():
                    self.keep_alive, says_close = False, True
        if not self.keep_alive and not says_close:
            head += b"connection: close\r\n"
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in WITHOUT_BODY:
            self.chunked_encoding = True
            head += b"transfer-encoding: chunked\r\n"
        self.head = b"%b%b\r\n" % (STATUS_LINE[status], head)

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
        elif self.chunked_encoding:
            part = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self._write(part + b"0\r\n\r\n" if is_last else part)
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                self._flush()
                raise RuntimeError("The answer is longer than its content-length.")
            self._write(body)
        if is_last:
            self._end()

    def _write(self, part: bytes) -> None:
        head, self.head = self.head, b""
        if head or part:
            self.transport.write(head + part)

    def _flush(self) -> None:
        if self.head and not self.transport.is_closing():
            self._write(b"")

    def _end(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("The answer is shorter than its content-length.")
        self._flush()
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
