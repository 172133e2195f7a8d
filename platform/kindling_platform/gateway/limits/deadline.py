"""A request's own deadline: a timer, and how an answer says what has cut it short."""

import asyncio
from collections.abc import Callable
from time import monotonic

from kindling_platform.gateway.errors import GatewayError

LIMITED_BY = b"x-kindling-limited-by"
LENGTH = b'"length"'
DEADLINE_EXCEEDED = "deadline_exceeded"


class Deadline:
    """Calls once when the time is over that began with the request."""

    __slots__ = ("_at", "_timer")

    def __init__(self, milliseconds: int | None, started_at: float) -> None:
        self._at = None if milliseconds is None else started_at + milliseconds / 1000
        self._timer: asyncio.TimerHandle | None = None

    def start(self, expire: Callable[[], None]) -> None:
        """Begin to wait, if there is a deadline."""
        if self._at is not None:
            self._timer = asyncio.get_running_loop().call_later(max(self._at - monotonic(), 0), expire)

    def stop(self) -> None:
        """The request has ended before."""
        if self._timer:
            self._timer.cancel()


def deadline_exceeded() -> GatewayError:
    """504 when nothing was made within the request's own deadline, which is over for a second try as well."""
    message = "The request's deadline_ms was over before there was an answer."
    return GatewayError(504, DEADLINE_EXCEEDED, message, headers={"x-should-retry": "false"})
