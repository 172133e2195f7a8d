"""The core's end of the Unix socket: messages in without blocking, messages out in one write."""

import os
import select
import socket
from pathlib import Path

from kindling_engine.protocol.ipc import FrameBuffer, ToCore, ToFront, decode_to_core, encode

_READ_BYTES = 1 << 18


class FrontLink:
    """``poll`` waits for messages or for ``wake``, which any thread may call."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._frames = FrameBuffer()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._wake_fd, select.POLLIN)
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
        try:
            data = self._socket.recv(_READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return []
        return [decode_to_core(frame) for frame in self._frames.feed(data)]
