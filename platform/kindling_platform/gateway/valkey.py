"""A minimal Valkey client for the hot path: one pipelined connection, scripts only, 50 ms, then a breaker.

A general client costs more CPU per call than the rest of admission. This one sends EVALSHA and matches
replies in order. One late or broken reply marks the server as down; requests then fail at once, without
waiting, until a background task has connected again and the server has answered a PING in time.
"""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

TIMEOUT_S = 0.05
GRACE_S = 0.005
CONNECT_TIMEOUT_S = 0.5
RETRY_DELAYS_S = (0.0, 0.1, 0.2, 0.5, 1.0)
# So many calls are on their way at a time. A crowd waits here, where waiting is no sign of a slow server.
MOST_ON_THE_WAY = 8


class ValkeyUnavailableError(Exception):
    """The server is down, late or answered with an error."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a ``redis://``, ``rediss://`` or ``unix://`` URL points to."""

    host: str
    port: int
    path: str
    secure: bool
    username: str
    password: str
    database: int


def parse_url(url: str) -> Address:
    """Take a server's URL apart; the path of a TCP URL is the number of the database."""
    parts = urlsplit(url)
    local = parts.scheme == "unix"
    number = "" if local else parts.path.strip("/")
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        path=unquote(parts.path) if local else "",
        secure=parts.scheme == "rediss",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=int(number) if number.isdigit() else 0,
    )


class _Connection(asyncio.Protocol):
    """Replies are matched to requests by order; whatever breaks fails all that wait."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol gets a stream transport

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.fail()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail()

    def fail(self) -> None:
        """Drop the connection; every waiting call ends with ValkeyUnavailableError."""
        if self._transport:
            self._transport.abort()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ValkeyUnavailableError("connection lost"))
                waiter.exception()
        if not self.lost.done():
            self.lost.set_result(None)

    def send(self, *command: str | bytes) -> asyncio.Future[Any]:
        waiter = asyncio.get_running_loop().create_future()
        if self._transport is None or self.lost.done():
            waiter.set_exception(ValkeyUnavailableError("not connected"))
            waiter.exception()
            return waiter
        self._waiting.append(waiter)
        # What one turn of the loop asks leaves together, since each write is a system call.
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub is too narrow
        return waiter

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport and not self.lost.done():
            self._transport.write(b"".join(unsent))


class Valkey:
    """Runs named scripts; `up` tells whether the server answered last."""

    def __init__(self, url: str, scripts: Mapping[str, str]) -> None:
        self._address = parse_url(url)
        self._scripts = scripts
        self._digests = {
            name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
            for name, text in scripts.items()
        }
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None

        self._turns = asyncio.Semaphore(MOST_ON_THE_WAY)
        self.connections = 0

    @property
    def up(self) -> bool:
        return self._connection is not None

    async def open(self) -> None:
        """Connect, or go on trying in the background."""
        try:
            await self._connect()
        except (OSError, ValkeyUnavailableError, TimeoutError):
            self._connection = None
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stop trying and hang up."""
        if self._keeper:
            self._keeper.cancel()
        if self._connection:
            self._connection.fail()
            self._connection = None

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script; raises ValkeyUnavailableError 55 ms after it was sent at the latest."""
        async with self._turns:
            return await self._run(script, keys, args)

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[str]) -> Any:
        connection = self._connection
        if connection is None:
            raise ValkeyUnavailableError("down")
        waiter = connection.send("EVALSHA", self._digests[script], str(len(keys)), *keys, *args)
        # The grace lets a reply which arrived while this process was busy be read before it counts as late.
        loop = asyncio.get_running_loop()
        late = loop.call_later(TIMEOUT_S, lambda: loop.call_later(GRACE_S, self._expire, connection, waiter))
        try:
            reply = await waiter
        finally:
            late.cancel()
        if isinstance(reply, hiredis.ReplyError):
            self._drop(connection)  # NOSCRIPT, READONLY, LOADING, OOM: connecting again mends what can be
            raise ValkeyUnavailableError(str(reply)[:80])
        return reply

    def _expire(self, connection: _Connection, waiter: asyncio.Future[Any]) -> None:
        if not waiter.done():
            waiter.set_exception(ValkeyUnavailableError("late"))
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        if self._connection is connection:
            self._connection = None
        connection.fail()

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await self._dial()
            commands: list[tuple[str, ...]] = []
            if self._address.password:
                login = (self._address.username,) if self._address.username else ()
                commands.append(("AUTH", *login, self._address.password))
            if self._address.database:
                commands.append(("SELECT", str(self._address.database)))
            commands += [("SCRIPT", "LOAD", text) for text in self._scripts.values()]
            try:
                for reply in await asyncio.gather(*(connection.send(*command) for command in commands)):
                    if isinstance(reply, hiredis.ReplyError):
                        raise ValkeyUnavailableError(str(reply)[:80])
                # A server that is slow by now would be dropped by the next call, and its caller would have waited.
                async with asyncio.timeout(TIMEOUT_S):
                    await connection.send("PING")
            except BaseException:
                connection.fail()
                raise
        self._connection = connection
        self.connections += 1

    async def _dial(self) -> _Connection:
        loop = asyncio.get_running_loop()
        address = self._address
        if address.path:
            _, connection = await loop.create_unix_connection(_Connection, address.path)
        else:
            context = ssl.create_default_context() if address.secure else None
            _, connection = await loop.create_connection(_Connection, address.host, address.port, ssl=context)
        return connection

    async def _keep(self) -> None:
        failures = 0
        while True:
            if self._connection:
                connection = self._connection
                await connection.lost
                self._drop(connection)
                failures = 0
            await asyncio.sleep(RETRY_DELAYS_S[min(failures, len(RETRY_DELAYS_S) - 1)])
            try:
                await self._connect()
            except (OSError, ValkeyUnavailableError, TimeoutError):
                failures += 1
