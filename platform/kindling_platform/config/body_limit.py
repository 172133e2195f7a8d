"""Bounds what a request may send before Django sees it, which would write any body to the disk first.

By how much, from whom, and how slowly: a body may take two minutes, and longer only while it goes on arriving.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable

from kindling_platform.batches.bounds import MAX_FILE_BYTES
from kindling_platform.config.body_refusal import (
    BUSY,
    MEGABYTE,
    SLOW,
    App,
    Message,
    Receive,
    Scope,
    Send,
    refuse,
    too_large,
)

DEFAULT_BYTES = 4 * MEGABYTE
# An adapter's two files, and what a form or a zip puts around them.
UPLOAD_BYTES = 2048 * MEGABYTE + 4 * MEGABYTE
# What a view reads while it arrives, and so refuses before the first byte is kept (`body_stream`).
STREAMED = re.compile(r"/api/v1/adapters/[^/]+/(files/[^/]+|zip)")
# Forms with files of browsers: spooled whole, so they are for those who are signed in, a few at a time.
FORM = "/console/adapters/upload/"
BATCH_FORM = "/console/batches/new/"
MOST_FORMS = 4
BODY_S = 120.0
LEAST_BYTES_PER_S = 32 * 1024


class _TooLarge(Exception):
    pass


class BodyLimit:
    """An ASGI app around another one; a larger body is refused with 413, whatever its headers claim.

    ``signed_in`` tells whether a request comes with the session of somebody.
    """

    def __init__(
        self, app: App, signed_in: Callable[[Scope], Awaitable[bool]], *, body_s: float = BODY_S
    ) -> None:
        self._app = app
        self._signed_in = signed_in
        self._body_s = body_s
        self._forms = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        streamed = scope["method"] == "PUT" and STREAMED.fullmatch(scope["path"])
        most = _form_bytes(scope["path"]) if scope["method"] == "POST" else 0
        form = most and await self._signed_in(scope)
        limit = UPLOAD_BYTES if streamed else most if form else DEFAULT_BYTES
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await refuse(too_large(limit), self._app, scope, receive, send)
        elif not form:
            await self._bounded(scope, receive, send, limit)
        elif self._forms >= MOST_FORMS:
            await refuse(BUSY, self._app, scope, receive, send)
        else:
            self._forms += 1
            try:
                await self._bounded(scope, receive, send, limit)
            finally:
                self._forms -= 1

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        loop = asyncio.get_running_loop()
        began, seen, complete = loop.time(), 0, False

        async def counted() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()
            async with asyncio.timeout_at(began + self._body_s + seen / LEAST_BYTES_PER_S):
                message = await receive()
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > limit:
                raise _TooLarge
            return message

        try:
            await self._app(scope, counted, send)
        # Django reads a body to its end before it answers, so nothing was sent yet.
        except _TooLarge:
            await refuse(too_large(limit), self._app, scope, receive, send, is_read=complete)
        except TimeoutError:
            if complete:
                raise
            await refuse(SLOW, self._app, scope, receive, send)


def _form_bytes(path: str) -> int:
    """What may be sent to a form with files; 0 for all other addresses."""
    return {FORM: UPLOAD_BYTES, BATCH_FORM: MAX_FILE_BYTES + 4 * MEGABYTE}.get(path, 0)
