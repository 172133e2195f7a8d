"""One HTTP request and its reply over bare ASGI: headers, a capped body, whole and streamed answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from kindling_platform.common.ids import uuid7_text
from kindling_platform.gateway.bodies import SMALL_BYTES, Bodies, BodyUnreadError
from kindling_platform.gateway.errors import ClientGoneError, ErrorDocs, GatewayError

if TYPE_CHECKING:
    from kindling_platform.gateway.request_log.copy import Copy
    from kindling_platform.gateway.traces import Trace

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
BeforeReply = Callable[[int, bytes, Headers], Awaitable[None]]

BODY_CAP_BYTES = 8 * 1024 * 1024
DISCARD_CAP_BYTES = 256 * 1024 * 1024
DISCARD_TIMEOUT_S = 10.0
BODY_TIMEOUT_S = 120.0
JSON_HEADER = (b"content-type", b"application/json")
EVENT_STREAM = b"text/event-stream"
# Where a scope names the server's own half of a connection, if that is one that spares us work.
SERVER = "kindling.server"


class Server(Protocol):
    """What a connection of ours offers beside ASGI."""

    def body_of(self, scope: Scope) -> bytes | None:
        """The whole body of a request, if all of it is there."""

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call when the client closes the connection."""

    def answer(self, scope: Scope, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole answer at once; False when it has to go the way of ASGI."""


class BodyTooLargeError(BodyUnreadError):
    """413."""

    def __init__(self) -> None:
        limit = BODY_CAP_BYTES // (1024 * 1024)
        super().__init__(413, "request_too_large", f"The request body is larger than {limit} MiB.")


class Request:
    """A request with its reply; `facts` collects what the access log says about it.

    `before_reply` is awaited with a whole answer before the client gets any of it, `on_new_id` when the request goes on
    under another id. `is_kept` says that the answer is given to whoever asks again, so that this request has to be
    charged whatever becomes of its connection. `writing_since` is when a write began that the client has not made room
    for; 0 without one. `bodies` counts what is held of the body until `forget`; `error_docs` says in errors where they
    are explained.
    """

    __slots__ = (
        "_held",
        "_receive",
        "_send",
        "_sends_events",
        "_server",
        "_tapped",
        "before_reply",
        "bodies",
        "copy",
        "error_docs",
        "extra_headers",
        "facts",
        "headers",
        "id",
        "is_kept",
        "on_new_id",
        "scope",
        "started_at",
        "status",
        "trace",
        "writing_since",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self._server: Server | None = scope.get(SERVER)
        self._tapped = False
        self._sends_events = False
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = uuid7_text()
        self.started_at = monotonic()
        self.status = 0
        self.extra_headers: Headers = []
        self.facts: dict[str, Any] = {}
        self.before_reply: BeforeReply | None = None
        self.on_new_id: Callable[[], Awaitable[None]] | None = None
        self.is_kept = False
        self.writing_since = 0.0
        self.trace: Trace | None = None
        self.copy: Copy | None = None
        self.bodies: Bodies | None = None
        self.error_docs: ErrorDocs | None = None
        self._held = 0

    @property
    def method(self) -> str:
        return str(self.scope["method"])

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def started(self) -> bool:
        """Whether the reply's headers are out."""
        return self.status != 0

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            GatewayError: 413 as soon as it is known to exceed the cap, 415 for a compressed one, 408, 503 `overloaded`.
        """
        encoding = self.headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding not in (b"", b"identity"):
            message = f"A body with content-encoding {encoding[:40].decode('latin-1')!r} is not read; send it as it is."
            raise BodyUnreadError(415, "unsupported_media_type", message)
        declared = self.headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared) > BODY_CAP_BYTES:
            raise BodyTooLargeError
        if self._server and (body := self._server.body_of(self.scope)) is not None:
            self._hold(len(body))
            return body
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                return await self._read_body()
        except TimeoutError as error:
            message = f"The request body did not arrive within {BODY_TIMEOUT_S:.0f} seconds."
            raise GatewayError(408, "request_timeout", message) from error

    async def parts(self) -> AsyncIterator[bytes]:
        """The body in parts as they arrive, for one that is not held whole; `body` is not asked then.

        Raises:
            GatewayError: 408 when nothing arrives for too long. ClientGoneError.
        """
        more = True
        while more:
            try:
                async with asyncio.timeout(BODY_TIMEOUT_S):
                    message = await self._receive()
            except TimeoutError as error:
                text = f"No part of the request body arrived within {BODY_TIMEOUT_S:.0f} seconds."
                raise GatewayError(408, "request_timeout", text) from error
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            more = message.get("more_body", False)
            if part := message.get("body", b""):
                yield bytes(part)

    def on_gone(self, callback: Callable[[], None] | None) -> bool:
        """Have `callback` called when the client closes the connection, None to end that; only after the body was read.

        False when the server does not offer it: then `wait_until_gone` tells.
        """
        if self._server is None:
            return False
        self._server.on_gone(callback)
        return True

    async def wait_until_gone(self) -> None:
        """Return when the client has closed the connection; only after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Send the status and the headers, with the request's id and what CORS needs."""
        every = self.head(status, headers)
        self.status = status
        self._sends_events = any(
            name == b"content-type" and value.startswith(EVENT_STREAM) for name, value in every
        )
        await self._send({"type": "http.response.start", "status": status, "headers": every})

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> Headers:
        """All headers of an answer."""
        return [*headers, (b"x-request-id", self.id.encode()), *self.extra_headers]

    async def write(self, part: bytes) -> None:
        """Send a part of a streamed body."""
        self.writing_since = monotonic()
        await self._send({"type": "http.response.body", "body": part, "more_body": True})
        self.writing_since = 0.0

    async def end(self, part: bytes = b"") -> None:
        """Send the last part of the body."""
        await self._send({"type": "http.response.body", "body": part, "more_body": False})

    async def reply(self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Send a whole answer, JSON unless the headers say otherwise; any error gets its ``doc_url``."""
        if status >= 400:
            body = self.documented(body)
        every = list(headers)
        if not any(name == b"content-type" for name, _ in every):
            every.append(JSON_HEADER)
        if self.before_reply:
            await self.before_reply(status, body, every)
        every.append((b"content-length", str(len(body)).encode()))
        if self._server and not self._tapped:
            head = self.head(status, every)
            if self._server.answer(self.scope, status, head, body):
                self.status = status
                return
        await self.start(status, every)
        await self.end(body)

    async def refuse(self, error: GatewayError) -> None:
        """Answer with an error; when a body is too large, hear the client out first so that it sees why."""
        headers = [(name.encode(), value.encode()) for name, value in error.headers.items()]
        if not isinstance(error, BodyUnreadError):
            await self.reply(error.status, error.body(), headers)
            return
        body = self.documented(self.error_body(error.status, error.body()))
        # Closing at once would reset the connection while the client still sends, and it would never read
        # the answer. So the answer goes out, and what still comes is dropped unseen.
        sizes = [JSON_HEADER, (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
        await self.start(error.status, [*headers, *sizes])
        await self.write(body)
        await self._discard()
        await self.end()

    async def break_off(self, error: GatewayError) -> None:
        """End an answer whose headers are already out: a stream of events with an error as its last one.

        Of any other the rest is missing: the server sees that it is not complete and closes the connection, so that
        nobody takes it for whole, or an error for a part of it.
        """
        if not self._sends_events:
            return
        await self.write(b"data: " + self.documented(error.body()) + b"\n\n")
        await self.end()

    def error_body(self, status: int, body: bytes) -> bytes:
        """An error's body as this request's client reads it."""
        return body

    def documented(self, body: bytes) -> bytes:
        """An error's body that says where its code is explained."""
        return self.error_docs.body(body) if self.error_docs else body

    def tap(self, begin: Callable[[bytes], None], hear: Callable[[bytes], None]) -> None:
        """Have somebody hear all that the client gets: the answer's content type, then its parts."""
        send, self._tapped = self._send, True

        async def tapped(message: Message) -> None:
            if message["type"] == "http.response.start":
                begin(dict(message["headers"]).get(b"content-type", b""))
            else:
                hear(message.get("body", b""))
            await send(message)

        self._send = tapped

    async def _read_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > BODY_CAP_BYTES:
                raise BodyTooLargeError
            self._hold(size)
            parts.append(part)
            if not message.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _hold(self, size: int) -> None:
        if self.bodies and size > SMALL_BYTES:
            self.bodies.take(size - self._held, self.facts.get("org", ""))
            self._held = size

    def forget(self) -> None:
        """The body is not needed any more."""
        if self.bodies:
            self.bodies.give(self._held, self.facts.get("org", ""))
            self._held = 0

    def body_move(self, heir: "Request") -> None:
        """Another request goes on with the body, and forgets it."""
        heir.bodies, heir._held, self._held = self.bodies, self._held, 0

    async def _discard(self) -> None:
        left = DISCARD_CAP_BYTES
        try:
            async with asyncio.timeout(DISCARD_TIMEOUT_S):
                while left > 0:
                    message = await self._receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))
        except TimeoutError:
            return
