"""Bounds what a request may send before Django sees it, which would write any body to the disk first."""

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MEGABYTE = 1024 * 1024
DEFAULT_BYTES = 4 * MEGABYTE
# An adapter's two files, and what a form or a zip puts around them.
UPLOAD_BYTES = 2048 * MEGABYTE + 4 * MEGABYTE
UPLOAD_PATH = re.compile(r"/(api/v1|console)/adapters/.+")


class _TooLarge(Exception):
    pass


class BodyLimit:
    """An ASGI app around another one; a larger body is answered with 413, whatever its headers claim."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = UPLOAD_BYTES if UPLOAD_PATH.fullmatch(scope["path"]) else DEFAULT_BYTES
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await _refuse(send, limit)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _TooLarge
            return message

        try:
            await self._app(scope, counted, send)
        except _TooLarge:
            # Django reads a body to its end before it answers, so nothing was sent yet.
            await _refuse(send, limit)


async def _refuse(send: Send, limit_bytes: int) -> None:
    error = {
        "message": f"A request to this address may send at most {limit_bytes:,} bytes.",
        "type": "invalid_request_error",
        "param": None,
        "code": "request_too_large",
    }
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": body})
