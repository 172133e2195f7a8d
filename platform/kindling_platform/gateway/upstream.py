"""The HTTP client towards engines: kept connections, a short time to connect, any to answer."""

import asyncio
from collections.abc import Callable, Mapping

import orjson

from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.routing import Replica
from kindling_platform.gateway.wire.line import CutError, Line, NotSentError
from kindling_platform.gateway.wire.pool import Lines, Place

GRANT_TIMEOUT_S = 2.0
# An engine that is asked when a grant ends says so, or that it does not yet, within ten seconds.
SHORT_TIMEOUT_S = 15.0
NOT_ANSWERED = (NotSentError, CutError, TimeoutError)


class Engines:
    """Sends requests and grants to replicas."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lines = Lines()

    async def open(self) -> None:
        """Be ready; it connects on demand."""
        self._lines.open()

    async def close(self) -> None:
        """Close every connection."""
        self._lines.close()

    async def post(
        self,
        replica: Replica,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        ready: bytes = b"",
        sent: Callable[[], None] | None = None,
        silence_s: float | None = None,
    ) -> Line:
        """Send a request and return when the reply's headers are there; the caller has to close it.

        `ready` are further headers, as of `lines_of`; `sent` is called once the request is on its way. `silence_s` is
        for how long the engine may say nothing, where that is not the usual time.

        Raises:
            NotSentError: nobody has seen it.
            CutError: an engine may have.
        """
        place = self._lines.place(replica.url)
        line = await self._lines.take(place)
        line.silence_s = silence_s
        try:
            head = head_of(place, "POST", path, headers, len(body), ready=ready)
            await line.ask(head, body, sent=sent)
        except BaseException:
            line.close()
            raise
        return line

    async def grant(self, replica: Replica, request_id: str, tokens: int) -> bool:
        """Tell an engine the new total of tokens that a request may make; idempotent, so it tries twice."""
        path, body = f"/requests/{request_id}/grant", orjson.dumps({"tokens": tokens})
        for _ in range(2):
            try:
                status, _ = await self._call(replica.url, "POST", path, body)
                return status < 300
            except NOT_ANSWERED as error:
                self._log.warning("grant_not_sent", request_id=request_id, error=type(error).__name__)
        return False

    async def short(self, replica: Replica, request_id: str) -> bool | None:
        """Wait until a request that is not streamed nears the end of its grant.

        False when it did not within some seconds, None when its engine does not know it, yet or any more, or cannot be
        asked.
        """
        try:
            async with asyncio.timeout(SHORT_TIMEOUT_S):
                status, body = await self._exchange(replica.url, "GET", f"/requests/{request_id}/grant")
            return bool(orjson.loads(body)["short"]) if status < 300 else None
        except (*NOT_ANSWERED, ValueError, KeyError, TypeError):
            return None

    async def stop(self, replica: Replica, request_id: str) -> bool:
        """Have an engine end a request where it is, as if its length were reached; False when it cannot be told."""
        try:
            status, _ = await self._call(replica.url, "POST", f"/requests/{request_id}/stop")
            return status < 300
        except NOT_ANSWERED as error:
            self._log.warning("stop_not_sent", request_id=request_id, error=type(error).__name__)
            return False

    async def adapters(self, url: str) -> dict[str, str]:
        """The tier of every adapter that the engine at `url` has; none when it does not say."""
        try:
            _, body = await self._call(url, "GET", "/lora")
            rows = orjson.loads(body)["adapters"]
            return {row["adapter"]: row["tier"] for row in rows if row["state"] != "failed"}
        except (*NOT_ANSWERED, ValueError, KeyError, TypeError):
            return {}

    async def _call(self, url: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        async with asyncio.timeout(GRANT_TIMEOUT_S):
            return await self._exchange(url, method, path, body)

    async def _exchange(self, url: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        headers = {"content-type": "application/json"} if body else {}
        place = self._lines.place(url)
        line = await self._lines.take(place)
        try:
            await line.ask(head_of(place, method, path, headers, len(body)), body)
            return line.status, await line.whole()
        finally:
            line.close()


def head_of(
    place: Place, method: str, path: str, headers: Mapping[str, str], body_bytes: int, *, ready: bytes = b""
) -> bytes:
    """The request line and the headers, those that are `ready` among them. Errors: as of `lines_of`."""
    target = place.base + path.encode("ascii")
    return b"%b %b HTTP/1.1\r\nhost: %b\r\ncontent-length: %d\r\n%b%b\r\n" % (
        method.encode(),
        target,
        place.name,
        body_bytes,
        ready,
        lines_of(headers),
    )


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Headers as lines. Errors: NotSentError for a value that would begin a line of its own."""
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    text = "".join(lines).encode("latin-1", "replace")
    if text.count(b"\n") != len(lines) or text.count(b"\r") != len(lines):
        raise NotSentError("a header holds a line break")
    return text
