"""A request whose answer goes out in the shape of its route."""

from collections.abc import Awaitable, Callable, Iterable

from kindling_platform.gateway.request import Headers, Receive, Request, Scope, Send
from kindling_platform.gateway.surface.form import Form

IGNORED = b"x-kindling-ignored"
EVENT_STREAM = b"text/event-stream"
Header = tuple[bytes, bytes]


class ShapedRequest(Request):
    """Whoever answers it speaks OpenAI's chat; with a `form` the client reads that form instead.

    `ignored` names fields without effect, beside those that the engine names; `keep` is awaited when the answer is
    complete and before the client can know that.
    """

    __slots__ = ("_streams", "form", "ignored", "keep")

    def __init__(self, scope: Scope, receive: Receive, send: Send, form: Form | None = None) -> None:
        super().__init__(scope, receive, send)
        self.form = form
        self.ignored: tuple[str, ...] = ()
        self.keep: Callable[[], Awaitable[None]] | None = None
        self._streams = False

    def head(self, status: int, headers: Iterable[Header]) -> Headers:
        """All headers of an answer, those of its form among them."""
        every = self._marked(list(headers)) if self.ignored and status == 200 else list(headers)
        if self.form:
            given = dict(every)
            self._streams = status == 200 and given.get(b"content-type", b"").startswith(EVENT_STREAM)
            if self._streams:
                self.form.begin(self.id, given)
            every += self.form.headers()
        return super().head(status, every)

    async def write(self, part: bytes) -> None:
        """Send a part of a streamed body."""
        if self.form and self._streams:
            part = self.form.feed(part)
            if not part:
                return
        await super().write(part)

    async def end(self, part: bytes = b"") -> None:
        """Send the last part of the body."""
        if self.form and self._streams:
            part = self.form.feed(part) if part else b""
            if self.keep:
                await self.keep()
            part += self.form.end()
        await super().end(part)

    async def reply(self, status: int, body: bytes, headers: Iterable[Header] = ()) -> None:
        """Send a whole answer or a refusal."""
        if self.form:
            headers = list(headers)
            self.form.begin(self.id, dict(headers))
            if status == 200:
                self.form.whole(body)
                if self.keep:
                    await self.keep()
                body = self.form.end()
            else:
                body = self.form.refusal(status, body)
        await super().reply(status, body, headers)

    def error_body(self, status: int, body: bytes) -> bytes:
        if self.form is None:
            return body
        self.form.begin(self.id, {})
        return self.form.refusal(status, body)

    def _marked(self, headers: list[Header]) -> list[Header]:
        known = next((value for name, value in headers if name == IGNORED), b"")
        names = [one for one in (known.decode("latin-1"), *self.ignored) if one]
        rest = [(name, value) for name, value in headers if name != IGNORED]
        return [*rest, (IGNORED, ",".join(names).encode("latin-1", "replace"))]
