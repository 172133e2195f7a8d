"""The core's end of the Unix socket: messages in without blocking, messages out in one write."""

import os
import select
import socket
from pathlib import Path

from kindling_engine.protocol.ipc import FrameBuffer, ToCore, ToFront, encode
from kindling_engine.protocol.repeats import ToCoreReader

_READ_BYTES = 1 << 18
_POLL_BYTES = 1 << 22
"""Of what has come at one time, lest those who send without end keep the core from its steps."""
_REST_MS = 2
"""How long the rest of a frame may take: a socket holds less than a long prompt, and the front fills it up again."""


class FrontLink:
    """``poll`` waits for messages or for ``wake``, which any thread may call."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._frames = FrameBuffer()
        self._reader = ToCoreReader()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._wake_fd, select.POLLIN)
        self._rest = select.poll()
        self._rest.register(self._socket, select.POLLIN)
        self.closed = False

    def wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def poll(self, timeout_s: float | None) -> list[ToCore]:
        """Messages that are there now, or else the first to come within ``timeout_s``; None waits without
        end.
        """
        messages: list[ToCore] = []
        timeout_ms = None if timeout_s is None else max(0.0, timeout_s * 1000)
        for descriptor, _event in self._poll.poll(timeout_ms):
            if descriptor == self._wake_fd:
                os.eventfd_read(self._wake_fd)
            else:
                messages.extend(self._receive())
        return messages

    def send(self, message: ToFront) -> None:
        """Write one message; a front that is gone marks the link closed."""
        try:
            self._socket.sendall(encode(message))
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def close(self) -> None:
        self._socket.close()
        os.close(self._wake_fd)

    def _receive(self) -> list[ToCore]:
        """All that has been sent: a grant or a cancellation must not wait while one prompt a step is read."""
        messages: list[ToCore] = []
        left = _POLL_BYTES
        while left > 0:
            data = self._read()
            if data:
                left -= len(data)
                messages += map(self._reader.decode, self._frames.feed(data))
            elif self.closed or not self._frames.partial or not self._rest.poll(_REST_MS):
                break
        return messages

    def _read(self) -> bytes:
        """What the socket holds; nothing if it is empty, or closed."""
        try:
            data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""
        except ConnectionResetError:
            data = b""
        self.closed = self.closed or not data
        return data
