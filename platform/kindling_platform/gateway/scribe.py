"""Writes one kind of row again and again, over one connection, without a general driver's turns.

psycopg connects. What follows is libpq's: a statement is prepared once, leaves in one go, and a reader that stays with
the connection hears its end; a driver's cursor, pool and waiting would hold the gateway up for longer than Postgres.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import pq

from kindling_platform.gateway.database import CONNECTION, STATEMENT_TIMEOUT_MS, DatabaseUnavailableError

# More than the server gives a statement: who is silent for longer has gone without a word.
ANSWER_S = STATEMENT_TIMEOUT_MS / 1000 + 1
DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


class Scribe:
    """Runs statements that tell nothing back, one after the other; raises DatabaseUnavailableError and nothing else."""

    def __init__(self, url: str, *, answer_s: float = ANSWER_S) -> None:
        self._url = url
        self._answer_s = answer_s
        self._turn = asyncio.Lock()
        self._session: _Session | None = None
        self._is_open = False

    async def open(self) -> None:
        """Be ready; it connects when there is something to write."""
        self._is_open = True

    async def close(self) -> None:
        """Hang up."""
        self._is_open = False
        self._leave()

    async def write(self, query: str, values: Mapping[str, str]) -> None:
        """Run a statement with ``%(name)s`` for each of its values, which are all text."""
        async with self._turn:
            try:
                async with asyncio.timeout(self._answer_s):
                    session = await self._ready()
                    await session.run(query, values)
            except (psycopg.Error, OSError) as error:
                self._leave()
                raise DatabaseUnavailableError(type(error).__name__) from error
            except BaseException:  # nobody waits for the end of what was begun
                self._leave()
                raise

    async def _ready(self) -> "_Session":
        if self._session and not self._session.is_broken:
            return self._session
        self._leave()
        if not self._is_open:
            raise psycopg.OperationalError("not open")
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **CONNECTION)
        self._session = _Session(connection)
        return self._session

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session:
            session.close()


class _Session:
    """A connection with the statements that it knows; `is_broken` once it can be used no more."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._connection = connection  # it ends the connection when nobody knows it any more
        self._server = connection.pgconn
        self._socket = self._server.socket
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, tuple[bytes, tuple[str, ...]]] = {}
        self._ended: asyncio.Future[None] | None = None
        self._error = ""
        self._is_full = False
        self.is_broken = False
        self._loop.add_reader(self._socket, self._hear)

    async def run(self, query: str, values: Mapping[str, str]) -> None:
        """Run a statement to its end. Errors: psycopg.Error."""
        if query not in self._known:
            await self._prepare(query, tuple(values))
        name, order = self._known[query]
        given: Sequence[bytes] = [values[one].encode() for one in order]
        await self._exchange(lambda: self._server.send_query_prepared(name, given))

    def close(self) -> None:
        """Hang up; whoever waits hears of it."""
        self._break(psycopg.OperationalError("closed"))
        self._server.finish()

    async def _prepare(self, query: str, order: tuple[str, ...]) -> None:
        if not self._known:
            limit = b"SET statement_timeout = %d" % STATEMENT_TIMEOUT_MS
            await self._exchange(lambda: self._server.send_query(limit))
        name = b"kindling_%d" % len(self._known)
        numbered = query % {one: f"${number}" for number, one in enumerate(order, start=1)}
        await self._exchange(lambda: self._server.send_prepare(name, numbered.encode()))
        self._known[query] = name, order

    async def _exchange(self, send: Callable[[], None]) -> None:
        self._ended, self._error = self._loop.create_future(), ""
        send()
        self._flush()
        await self._ended

    def _flush(self) -> None:
        try:
            was_full, self._is_full = self._is_full, bool(self._server.flush())
        except psycopg.Error as error:
            self._break(error)
            return
        if self._is_full and not was_full:  # it is more than the kernel takes at once
            self._loop.add_writer(self._socket, self._flush)
        elif was_full and not self._is_full:
            self._loop.remove_writer(self._socket)

    def _hear(self) -> None:
        try:
            self._server.consume_input()
            while not self._server.is_busy():
                result = self._server.get_result()
                if result is None:
                    self._end(psycopg.DatabaseError(self._error) if self._error else None)
                    return
                if result.status not in DONE:
                    self._error = result.get_error_message() or "refused"
        except psycopg.Error as error:
            self._break(error)

    def _break(self, error: psycopg.Error) -> None:
        if not self.is_broken:
            self.is_broken = True
            # At once: libpq may have closed the socket, and the next file that is opened gets its number.
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._end(error)

    def _end(self, error: psycopg.Error | None) -> None:
        ended, self._ended = self._ended, None
        if ended and not ended.done():
            if error:
                ended.set_exception(error)
                ended.exception()  # whoever waited may have gone
            else:
                ended.set_result(None)
