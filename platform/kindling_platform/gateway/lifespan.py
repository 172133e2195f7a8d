"""The ASGI lifespan of a process that holds a gateway, and its reaction to the signal that ends it."""

import asyncio
import gc
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Protocol

from kindling_platform.gateway.request import Receive, Scope, Send

# Requests leave next to nothing for the collector, so it need not come often.
YOUNG_OBJECTS = 10_000
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Served(Protocol):
    """What can be started, called, drained and stopped."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    async def startup(self) -> None: ...

    async def shutdown(self) -> None: ...

    def drain(self) -> None: ...


def asgi_application(served: Served) -> Application:
    """A whole ASGI application: the lifespan opens and closes what is served, HTTP goes to it."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(served, receive, send)
        elif scope["type"] == "http":
            await served(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    return application


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
            freeze_heap()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await served.shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return


def freeze_heap() -> None:
    """Spare the garbage collector what was loaded at the start, which it would look through again and again."""
    if threading.current_thread() is threading.main_thread():
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)


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
