"""The HTTP client towards engines: pooled connections, a short time to connect, any to answer."""

import aiohttp
import orjson
from yarl import URL

from kindling_platform.gateway.access_log import Log
from kindling_platform.gateway.routing import Replica

CONNECT_TIMEOUT_S = 2.0
SILENCE_TIMEOUT_S = 600.0
GRANT_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 20.0
CUT_ERRORS = (aiohttp.ClientError, TimeoutError, OSError)


class NotSentError(Exception):
    """The engine could not be reached; nothing of the request has left."""


class CutError(Exception):
    """The connection broke after the request may have reached the engine."""


class Engines:
    """Sends requests and grants to replicas."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def open(self) -> None:
        """Make the session; it connects on demand."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def post(
        self, replica: Replica, path: str, headers: dict[str, str], body: bytes
    ) -> aiohttp.ClientResponse:
        """Send a request and return when the reply's headers are there; raises NotSentError or CutError."""
        url = replica.url + path
        target = self._urls.get(url)
        if target is None:
            if len(self._urls) > 10_000:
                self._urls.clear()
            target = self._urls[url] = URL(url)
        try:
            return await self._open_session().post(target, data=body, headers=headers, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NotSentError from error
        except CUT_ERRORS as error:
            raise CutError from error

    async def grant(self, replica: Replica, request_id: str, tokens: int) -> bool:
        """Tell an engine the new total of tokens that a request may make; idempotent, so it tries twice."""
        timeout = aiohttp.ClientTimeout(total=GRANT_TIMEOUT_S)
        url = URL(f"{replica.url}/requests/{request_id}/grant")
        for _ in range(2):
            try:
                async with self._open_session().post(url, json={"tokens": tokens}, timeout=timeout) as reply:
                    return reply.status < 300
            except CUT_ERRORS as error:
                self._log.warning("grant_not_sent", request_id=request_id, error=type(error).__name__)
        return False

    async def stop(self, replica: Replica, request_id: str) -> bool:
        """Have an engine end a request where it is, as if its length were reached; False when it cannot be told."""
        timeout = aiohttp.ClientTimeout(total=GRANT_TIMEOUT_S)
        url = URL(f"{replica.url}/requests/{request_id}/stop")
        try:
            async with self._open_session().post(url, timeout=timeout) as reply:
                return reply.status < 300
        except CUT_ERRORS as error:
            self._log.warning("stop_not_sent", request_id=request_id, error=type(error).__name__)
            return False

    async def adapters(self, url: str) -> dict[str, str]:
        """The tier of every adapter that the engine at `url` has; none when it does not say."""
        timeout = aiohttp.ClientTimeout(total=GRANT_TIMEOUT_S)
        try:
            async with self._open_session().get(f"{url}/lora", timeout=timeout) as reply:
                rows = orjson.loads(await reply.read())["adapters"]
            return {row["adapter"]: row["tier"] for row in rows if row["state"] != "failed"}
        except (*CUT_ERRORS, NotSentError, ValueError, KeyError, TypeError):
            return {}

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise NotSentError("the client is not open")
        return self._session


async def read_part(reply: aiohttp.ClientResponse) -> bytes:
    """The next bytes of a reply, empty at its end; raises CutError."""
    try:
        return await reply.content.readany()
    except CUT_ERRORS as error:
        raise CutError from error


async def read_whole(reply: aiohttp.ClientResponse) -> bytes:
    """All of a reply; raises CutError."""
    try:
        return await reply.read()
    except CUT_ERRORS as error:
        raise CutError from error
