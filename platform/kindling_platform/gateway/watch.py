"""Ends a request from outside: its client has gone or does not read, or the server has to stop."""

import asyncio
from contextlib import suppress
from time import monotonic
from types import TracebackType

from kindling_platform.gateway.errors import ClientGoneError, GatewayError, server_shutdown
from kindling_platform.gateway.request import Request

WRITE_TIMEOUT_S = 60.0
CHECKS_PER_TIMEOUT = 20
LAST_WORDS_S = 1.0


class Watch:
    """A context in which the current task is cancelled as soon as the client is gone, unless it is not to heed that.

    The cancellation leaves the context as ClientGoneError, or as the error it was cut with.
    """

    __slots__ = ("_error", "_heeds_client", "_is_called", "_request", "_task", "_watcher", "_watches")

    def __init__(self, request: Request, watches: "Watches", *, heeds_client: bool = True) -> None:
        self._heeds_client = heeds_client
        self._request = request
        self._watches = watches
        self._error: GatewayError | ClientGoneError | None = None
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._is_called = False

    @property
    def error(self) -> GatewayError | ClientGoneError | None:
        """What the request was cut with."""
        return self._error

    def __enter__(self) -> "Watch":
        self._task = asyncio.current_task()
        if self._heeds_client:
            self._is_called = self._request.on_gone(self._gone)
            if not self._is_called:
                self._watcher = asyncio.create_task(self._look())
        self._watches.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._watches.forget(self)
        task, self._task = self._task, None
        cut, self._error = self._error, None
        if isinstance(error, asyncio.CancelledError) and cut and task:
            task.uncancel()
            try:
                raise cut from None
            finally:
                del cut, error  # this frame is part of what it raises, and would keep it

    def check(self, now: float, *, write_timeout_s: float) -> None:
        """End a request whose client has made no room for the next part of its answer for too long."""
        since = self._request.writing_since
        if since and now - since > write_timeout_s:
            self._request.facts["slow_reader"] = True
            self.cut(ClientGoneError())

    def stop(self) -> None:
        """The answer is complete but for its last byte; from here on a hang-up changes nothing."""
        self._watches.end(self)
        if self._watcher:
            self._watcher.cancel()
        if self._is_called:
            self._is_called = False
            self._request.on_gone(None)

    def cut(self, error: GatewayError | ClientGoneError) -> None:
        """End the request with an error."""
        if self._error is None and self._task:
            self._error = error
            self._task.cancel()

    async def _look(self) -> None:
        await self._request.wait_until_gone()
        self._gone()

    def _gone(self) -> None:
        self.cut(ClientGoneError())


class Watches:
    """The running requests of this process; at a shutdown they get a grace period and then an error."""

    def __init__(self, *, grace_s: float, write_timeout_s: float = WRITE_TIMEOUT_S) -> None:
        self._grace_s = grace_s
        self._write_timeout_s = write_timeout_s
        self._checker: asyncio.Task[None] | None = None
        self._running: set[Watch] = set()
        # Their answers are complete, and their last bytes wait for the client to read.
        self._ending: set[Watch] = set()
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Start looking for clients that do not read; one that reads a byte now and then holds no slot for ever."""
        self._checker = asyncio.create_task(self._check())

    async def close(self) -> None:
        """Stop looking, end every running request now, and let each say its last words."""
        if self._checker:
            self._checker.cancel()
        self.cut_all()
        if self._running or self._ending:
            self._idle.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), LAST_WORDS_S)

    def add(self, watch: Watch) -> None:
        self._running.add(watch)

    def end(self, watch: Watch) -> None:
        if watch in self._running:
            self._running.remove(watch)
            self._ending.add(watch)

    def forget(self, watch: Watch) -> None:
        self._ending.discard(watch)
        if not (self._running or self._ending):
            self._idle.set()

    def drain(self) -> None:
        """Start the grace period; the second call does nothing."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self.cut_all)

    def cut_all(self) -> None:
        """End every running request now."""
        for watch in list(self._running):
            watch.cut(server_shutdown())

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(self._write_timeout_s / CHECKS_PER_TIMEOUT)
            now = monotonic()
            for watch in (*self._running, *self._ending):
                watch.check(now, write_timeout_s=self._write_timeout_s)
