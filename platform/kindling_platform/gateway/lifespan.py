"""The ASGI lifespan of a process that holds a gateway, and its reaction to the signal that ends it."""

import asyncio
import signal
import threading
from types import FrameType
from typing import Protocol

from kindling_platform.gateway.request import Receive, Send


class Served(Protocol):
    """What can be started, drained and stopped."""

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    def drain(self) -> None: ...


async def serve_lifespan(served: Served, receive: Receive, send: Send) -> None:
    """Answer the server's lifespan messages."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await served.startup()
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                raise
            drain_on_signals(served)
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await served.shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return


def drain_on_signals(served: Served) -> None:
    """Start draining at SIGTERM and SIGINT, before the server's own handler.

    A server tells its application of a shutdown only when all connections are closed; an open stream
    would keep that from ever happening.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        previous = signal.getsignal(number)

        def handle(got: int, frame: FrameType | None, previous: object = previous) -> None:
            loop.call_soon_threadsafe(served.drain)
            if callable(previous):
                previous(got, frame)

        if callable(previous):
            signal.signal(number, handle)
