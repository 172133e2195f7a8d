"""Ends a request from outside: its client has gone, or the server has to stop."""

import asyncio
from types import TracebackType

from kindling_platform.gateway.errors import ClientGoneError, GatewayError, server_shutdown
from kindling_platform.gateway.request import Request


class Watch:
    """A context in which the current task is cancelled as soon as the client is gone.

    The cancellation leaves the context as ClientGoneError, or as the error it was cut with.
    """

    __slots__ = ("_error", "_request", "_task", "_watcher", "_watches")

    def __init__(self, request: Request, watches: "Watches") -> None:
        self._request = request
        self._watches = watches
        self._error: GatewayError | ClientGoneError | None = None
        self._task: asyncio.Task[object] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> "Watch":
        self._task = asyncio.current_task()
        self._watcher = asyncio.create_task(self._look())
        self._watches.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if isinstance(error, asyncio.CancelledError) and self._error and self._task:
            self._task.uncancel()
            raise self._error from None

    def stop(self) -> None:
        """The answer is complete but for its last byte; from here on a hang-up changes nothing."""
        self._watches.discard(self)
        if self._watcher:
            self._watcher.cancel()

    def cut(self, error: GatewayError | ClientGoneError) -> None:
        """End the request with an error."""
        if self._error is None and self._task:
            self._error = error
            self._task.cancel()

    async def _look(self) -> None:
        await self._request.wait_until_gone()
        self.cut(ClientGoneError())


class Watches:
    """The running requests of this process; at a shutdown they get a grace period and then an error."""

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._running: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: Watch) -> None:
        self._running.add(watch)

    def discard(self, watch: Watch) -> None:
        self._running.discard(watch)

    def drain(self) -> None:
        """Start the grace period; the second call does nothing."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self.cut_all)

    def cut_all(self) -> None:
        """End every running request now."""
        for watch in list(self._running):
            watch.cut(server_shutdown())
