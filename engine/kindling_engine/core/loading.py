"""Tells the front how far the reading of the weights is, so that a long start can be watched."""

import time
from collections.abc import Callable

from kindling_engine.protocol.ipc import CoreLoading

_EVERY_S = 0.5


class LoadingNews:
    """A progress callback that sends at most two messages a second."""

    def __init__(self, send: Callable[[CoreLoading], None]) -> None:
        self._send = send
        self._next_s = time.monotonic() + _EVERY_S

    def __call__(self, done_bytes: int, all_bytes: int) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _EVERY_S
            self._send(CoreLoading(done_bytes, all_bytes))
