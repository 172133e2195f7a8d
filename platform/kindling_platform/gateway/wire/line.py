"""A kept connection to an engine: one request at a time, and its answer in parts as they come.

A general client spends more on a request than the rest of the gateway's relay. Here the head is one text, the answer is
read by the parser the server side uses, and nothing is awaited that is there already.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

import httptools

# Beyond so many bytes that nobody has taken yet the engine has to wait.
HIGH_WATER_BYTES = 128 * 1024
EVENT_STREAM = b"text/event-stream"


class NotSentError(Exception):
    """The engine could not be reached; nothing of the request has left."""


class CutError(Exception):
    """The connection broke after the request may have reached the engine."""


class Line(asyncio.Protocol):
    """A connection and the answer on it; `status` and `headers` (names in lower case) hold once `ask` has returned.

    `done` is called with the line when it is closed or free for the next request; `free_since` is when that was.
    """

    __slots__ = (
        *(
            "_broken",
            "_complete",
            "_done",
            "_parser",
            "_parts",
            "_paused",
            "_size",
            "_transport",
            "_until_end",
        ),
        *("_waiter", "free_since", "headers", "heard_at", "silence_s", "status"),
    )

    def __init__(self, done: "Callable[[Line], None]") -> None:
        self._done = done
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._paused = False
        self._broken = False
        self._complete = True
        self._until_end = False
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.heard_at = monotonic()
        self.free_since = 0.0
        # For how long its engine may say nothing, where that is not the usual time.
        self.silence_s: float | None = None

    @property
    def is_usable(self) -> bool:
        """Whether another request can go out on it."""
        transport = self._transport
        return self._complete and not self._broken and transport is not None and not transport.is_closing()

    @property
    def is_event_stream(self) -> bool:
        return self.headers.get(b"content-type", b"").lower().startswith(EVENT_STREAM)

    async def ask(self, head: bytes, body: bytes, *, sent: Callable[[], None] | None = None) -> None:
        """Send a request and return when the head of its answer is there; `sent` is called in between.

        Errors: CutError.
        """
        if self._transport is None or self._broken:
            raise CutError
        self.status, self.headers, self._complete, self._until_end = 0, {}, False, False
        self.heard_at = monotonic()
        if body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)
        if sent:
            sent()
        while not self.status:
            await self._hear()

    async def part(self) -> bytes:
        """The next bytes of the answer, empty at its end. Errors: CutError."""
        while not self._parts:
            if self._complete:
                return b""
            await self._hear()
        return self._take()

    async def whole(self) -> bytes:
        """All the rest of the answer. Errors: CutError."""
        parts: list[bytes] = []
        while part := await self.part():
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Nobody reads on: an answer that has ended leaves the line to the next request, any other ends it.

        That the line ends is how an engine learns that nobody waits any more.
        """
        if self._complete:
            self._take()
        else:
            self.abort()
        self._done(self)

    def abort(self) -> None:
        """Hang up."""
        self._fail()
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol gets a stream transport

    def data_received(self, data: bytes) -> None:
        if (
            self._complete or self._parser is None
        ):  # an engine that speaks unasked, or says more than its head has told
            self.abort()
            return
        self.heard_at = monotonic()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.abort()
        if self._size > HIGH_WATER_BYTES and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._until_end and self.status:
            self._complete = True
        self._fail()
        self._done(self)
        self._parser = None  # it knows the line, and nobody but the collector would part the two

    def on_message_begin(self) -> None:
        if self._complete:  # a second answer to one request
            self._broken = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._complete:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        if self._complete or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # the answer proper is still to come
            self.headers.clear()
            return
        self.status = status
        self._until_end = not (b"content-length" in self.headers or b"transfer-encoding" in self.headers)

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._parts.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if not self.status or self._complete or self._parser is None:
            return
        self._complete = True
        if not self._parser.should_keep_alive():
            self._broken = True

    def _take(self) -> bytes:
        parts, self._parts, self._size = self._parts, [], 0
        if self._paused and self._transport and not self._broken:
            self._paused = False
            self._transport.resume_reading()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _hear(self) -> None:
        if self._broken:
            raise CutError
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _fail(self) -> None:
        self._broken = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
