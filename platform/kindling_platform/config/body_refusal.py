"""How a request is refused whose body was not read: a program gets JSON, a browser the page of its form.

The page is Django's to make. It is asked for in the form's place, as if it were opened, and the scope says why.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

SCOPE_KEY = "kindling.refusal"
MEGABYTE = 1024 * 1024
# Browsers send a form to its end before they read: one that hangs up on them shows a page of the browser's own.
DISCARDED_BYTES = 2048 * MEGABYTE
DISCARDED_S = 120.0
# At a time, of whoever sends them: reading costs a core as much as it costs a line.
MOST_DISCARDED = 16
# What programs send to, which read JSON whatever they say that they take.
PROGRAMS = ("/api/", "/stripe/")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a body was not taken: for programs, and in other words for people."""

    status: int
    code: str
    message: str
    page_text: str


def too_large(limit_bytes: int) -> Refusal:
    """A body of more than a limit."""
    return Refusal(
        413,
        "request_too_large",
        f"A request to this address may send at most {limit_bytes:,} bytes.",
        f"Nothing was saved: what you sent is too large. This form takes {limit_bytes // MEGABYTE:,} MiB, all files "
        "together. Choose a smaller file and send it again.",
    )


BUSY = Refusal(
    503,
    "uploads_busy",
    "Several uploads are arriving. Try again in a minute.",
    "Nothing was saved: several uploads are arriving. Send the form again in a minute.",
)
SLOW = Refusal(
    408,
    "request_timeout",
    "The body of this request did not arrive in time.",
    "Nothing was saved: what you sent did not arrive in time. Send it again over a better connection.",
)


def refusal_of(scope: Scope) -> Refusal | None:
    """Why the body of a request was not taken; None for all others."""
    found: Refusal | None = scope.get(SCOPE_KEY)
    return found


async def refuse(
    refusal: Refusal, app: App, scope: Scope, receive: Receive, send: Send, *, is_read: bool = False
) -> None:
    """Answer a request whose body is not taken, and of which nothing was answered yet; `is_read` where it has ended."""
    is_unread = refusal is not SLOW and not is_read
    # Whoever asks before sending a body is told to send it by the first read.
    is_asking = is_unread and b"expect" in dict(scope["headers"])
    is_heard_out = is_unread and not is_asking
    if not _is_form(scope) or (is_heard_out and _Discarding.running >= MOST_DISCARDED):
        await _refuse_program(refusal, send)
        return
    if is_heard_out:
        await _discard(receive)
    body = (b"content-length", b"content-type", b"transfer-encoding", b"expect")
    headers = [(name, value) for name, value in scope["headers"] if name not in body]
    opened = scope | {"method": "GET", "headers": headers, SCOPE_KEY: refusal}
    given = False

    async def nothing() -> Message:
        nonlocal given
        if given:
            if is_asking:
                await asyncio.Event().wait()
            # Whatever still arrives is nobody's; to Django the body has ended.
            while (message := await receive())["type"] != "http.disconnect":
                pass
            return message
        given = True
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(opened, nothing, send)


def _is_form(scope: Scope) -> bool:
    if scope["method"] != "POST" or scope["path"].startswith(PROGRAMS):
        return False
    headers = dict(scope["headers"])
    return b"text/html" in headers.get(b"accept", b"") or headers.get(b"hx-request") == b"true"


class _Discarding:
    """How many forms this process hears out."""

    running = 0


async def _discard(receive: Receive) -> None:
    seen = 0
    _Discarding.running += 1
    try:
        async with asyncio.timeout(DISCARDED_S):
            while seen < DISCARDED_BYTES:
                message = await receive()
                seen += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return
    finally:
        _Discarding.running -= 1


async def _refuse_program(refusal: Refusal, send: Send) -> None:
    kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
    error = {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}
    body = json.dumps({"error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
