"""A minimal Valkey client for the hot path: one pipelined connection, scripts only, 50 ms, then a breaker.

A general client costs more CPU per call than the rest of admission. This one sends EVALSHA and matches
replies in order. Silence or a broken reply marks the server as down; requests then fail at once, without
waiting, until a background task has connected again and the server has answered a PING in time.
"""

import asyncio
import hashlib
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import hiredis

from kindling_platform.gateway.valkey_socket import is_same_server, socket_find

TIMEOUT_S = 0.05
GRACE_S = 0.005
CONNECT_TIMEOUT_S = 0.5
RETRY_DELAYS_S = (0.0, 0.1, 0.2, 0.5, 1.0)
# A server that was lost for less than this may only have been slow for a moment.
BLIP_S = 1.0
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


class Waiter(Protocol):
    """Who waits for a reply; a future is one."""

    def done(self) -> bool: ...

    def set_result(self, reply: Any, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class _Tally:
    """Waits for many replies and says once how many came before anything broke."""

    __slots__ = ("_ended", "_left", "_told")

    def __init__(self, calls: int, ended: Callable[[int, bool], None]) -> None:
        self._left = calls
        self._told = 0
        self._ended = ended

    def done(self) -> bool:
        return not self._left

    def set_result(self, reply: Any) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._end(is_sound=False)
            return
        self._left -= 1
        self._told += 1
        if not self._left:
            self._end(is_sound=True)

    def set_exception(self, _error: Exception) -> None:
        self._end(is_sound=False)

    def _end(self, *, is_sound: bool) -> None:
        self._left = 0
        self._ended(self._told, is_sound)


class _Connection(asyncio.Protocol):
    """Replies are matched to requests by order; whatever breaks fails all that wait, and so does silence."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._waiting: deque[Waiter] = deque()
        self._sent_at: deque[float] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.WriteTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._is_patient = True
        self.lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol gets a stream transport

    def data_received(self, data: bytes) -> None:
        self._heard_at = monotonic()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._sent_at.popleft()
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(reply)
        except (hiredis.ProtocolError, IndexError):
            self.fail()

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail()

    def lose_patience(self) -> None:
        """From now on the server has to answer in time."""
        self._is_patient = False

    def fail(self) -> None:
        """Drop the connection; every waiting call ends with ValkeyUnavailableError."""
        if self._transport:
            self._transport.abort()
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._sent_at.clear()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(ValkeyUnavailableError("connection lost"))
                if isinstance(waiter, asyncio.Future):
                    waiter.exception()  # whoever waited may have gone
        if not self.lost.done():
            self.lost.set_result(None)

    def ask(self, *command: str | bytes) -> asyncio.Future[Any]:
        """Send a command; the future has its reply."""
        waiter = self._loop.create_future()
        if not self.send(command, waiter):
            waiter.set_exception(ValkeyUnavailableError("not connected"))
            waiter.exception()
        return waiter

    def send(self, command: Sequence[str | bytes], waiter: Waiter) -> bool:
        """Send a command whose reply `waiter` gets; False when there is no connection."""
        if self._transport is None or self.lost.done():
            return False
        is_alone = not self._waiting
        self._waiting.append(waiter)
        self._sent_at.append(monotonic())
        packed = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub is too narrow
        if is_alone:
            self._transport.write(packed)
        else:
            # What a crowd asks in one turn of the loop leaves together, since each write is a system call.
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(packed)
        if self._timer is None and not self._is_patient:
            self._timer = self._loop.call_later(TIMEOUT_S, self._look)
        return True

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport and not self.lost.done():
            self._transport.write(b"".join(unsent))

    def _look(self) -> None:
        """One timer for all calls: a crowd that is being answered is no sign of a slow server, silence is."""
        self._timer = None
        if not self._waiting:
            return
        due = max(self._sent_at[0], self._heard_at) + TIMEOUT_S - monotonic()
        if due > 0:
            self._timer = self._loop.call_later(due, self._look)
        else:
            # The grace lets a reply which arrived while this process was busy be read before it counts as late.
            self._timer = self._loop.call_later(GRACE_S, self._expire, self._heard_at)

    def _expire(self, heard_at: float) -> None:
        if self._waiting and self._heard_at == heard_at:
            self.fail()
        else:
            self._look()


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
        self._connected = asyncio.Event()
        self._lost_at = float("-inf")
        self.connections = 0

    @property
    def up(self) -> bool:
        return self._connection is not None and not self._connection.lost.done()

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

    async def comes_back(self) -> bool:
        """Whether the server is up, or is so within a second of having been lost; an outage is not waited out."""
        if self._connection and not self.up:
            self._drop(self._connection)
        try:
            async with asyncio.timeout(max(0.0, self._lost_at + BLIP_S - monotonic())):
                await self._connected.wait()
        except TimeoutError:
            return False
        return True

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script; raises ValkeyUnavailableError when the server says nothing for 55 ms."""
        async with self._turns:
            connection = self._connection
            if connection is None:
                raise ValkeyUnavailableError("down")
            reply = await connection.ask("EVALSHA", self._digests[script], str(len(keys)), *keys, *args)
            if isinstance(reply, hiredis.ReplyError):
                self._drop(connection)  # NOSCRIPT, READONLY, LOADING, OOM: connecting again mends what can be
                raise ValkeyUnavailableError(str(reply)[:80])
            return reply

    def tell(
        self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[str]]], told: Callable[[int], None]
    ) -> None:
        """Run a script once for each keys and arguments, in one write and without waiting.

        `told` is called once: with how many of them, from the first, have certainly run.
        """
        connection = self._connection
        if connection is None or connection.lost.done():
            told(0)
            return

        def ended(count: int, is_sound: bool) -> None:
            if not is_sound:
                self._drop(connection)
            told(count)

        tally = _Tally(len(calls), ended)
        for keys, args in calls:
            connection.send(("EVALSHA", self._digests[script], str(len(keys)), *keys, *args), tally)

    def _drop(self, connection: _Connection) -> None:
        if self._connection is connection:
            self._connection = None
            self._connected.clear()
            self._lost_at = monotonic()
        connection.fail()

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            connection = await self._enter(self._address)
            try:
                connection = await self._nearer(connection)
            except BaseException:
                connection.fail()
                raise
        connection.lose_patience()
        self._connection = connection
        self._connected.set()
        self.connections += 1

    async def _enter(self, address: Address) -> _Connection:
        """A connection that is logged in to a server that knows the scripts and answers in time."""
        connection = await self._dial(address)
        commands: list[tuple[str, ...]] = []
        if address.password:
            login = (address.username,) if address.username else ()
            commands.append(("AUTH", *login, address.password))
        if address.database:
            commands.append(("SELECT", str(address.database)))
        commands += [("SCRIPT", "LOAD", text) for text in self._scripts.values()]
        try:
            for reply in await asyncio.gather(*(connection.ask(*command) for command in commands)):
                if isinstance(reply, hiredis.ReplyError):
                    raise ValkeyUnavailableError(str(reply)[:80])
            # A server that is slow by now would be dropped by the next call, and its caller would have waited.
            async with asyncio.timeout(TIMEOUT_S):
                await connection.ask("PING")
        except BaseException:
            connection.fail()
            raise
        return connection

    async def _nearer(self, connection: _Connection) -> _Connection:
        """The same server over its Unix socket where this machine has it, else the connection that is given."""
        address = self._address
        has_way = not (address.path or address.secure)
        path = await socket_find(connection, address.host, address.port) if has_way else ""
        if not path:
            return connection
        try:
            near = await self._enter(replace(address, path=path))
        except (OSError, ValkeyUnavailableError):
            return connection
        try:
            is_same = await is_same_server(connection, near)
        except BaseException:
            near.fail()
            raise
        kept, left = (near, connection) if is_same else (connection, near)
        left.fail()
        return kept

    async def _dial(self, address: Address) -> _Connection:
        loop = asyncio.get_running_loop()
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
