"""Lets a view read an upload while it arrives.

Django reads a whole body to the disk before a view runs, so a refusal would come after the last of two gigabytes.
For uploads this app shows Django an empty body and leaves the real one in the scope, for the view's thread to read.
"""

import asyncio

from kindling_platform.common.bodies import SCOPE_KEY
from kindling_platform.common.errors import KindlingError
from kindling_platform.config.body_limit import STREAMED
from kindling_platform.config.body_refusal import App, Message, Receive, Scope, Send

STALL_S = 30.0


class StreamedBody:
    """A body that is read from another thread than the one it arrives on."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self.complete = asyncio.Event()
        self.gone = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end; waits for the client.

        Raises:
            KindlingError: `upload_interrupted`, when the client left or sent nothing for a while.
        """
        while not self._rest and not self.complete.is_set():
            future = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                future.result(STALL_S)
            except TimeoutError as error:
                future.cancel()
                raise _interrupted() from error
        if self.gone:
            raise _interrupted()
        block, self._rest = self._rest[:size], self._rest[size:]
        return block

    async def _next(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self.complete.set()
            return
        self._rest = message.get("body", b"")
        if not message.get("more_body", False):
            self.complete.set()


class StreamUploads:
    """An ASGI app around Django."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT" or not STREAMED.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = StreamedBody(receive)
        shown = False

        async def empty() -> Message:
            nonlocal shown
            if not shown:
                shown = True
                return {"type": "http.request", "body": b"", "more_body": False}
            # Django waits here for a disconnect; until the body is through, only its reader can notice one.
            await body.complete.wait()
            return {"type": "http.disconnect"} if body.gone else await receive()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.complete.is_set():
                # The rest of the body is not wanted, and the connection cannot be used for anything else.
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self._app({**scope, SCOPE_KEY: body}, empty, answer)


def _interrupted() -> KindlingError:
    text = "The upload was interrupted; ask which bytes have arrived and go on behind them."
    return KindlingError("upload_interrupted", text, 400)
