"""`/v1/files`: upload, list, read and delete files, in OpenAI's shape."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.bodies import refused_unread
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routes import Action, Route
from kindling_platform.gateway.surface.files.store import UPLOADED, FileStore, StoredFile, key_required
from kindling_platform.gateway.surface.files.upload import most_bytes, upload_read
from kindling_platform.gateway.surface.query import page_read, query_read, text_read

# OpenAI gives ten thousand; a page is a thousandth of a second's work for each hundred.
DEFAULT_LIMIT, MAX_LIMIT = 1000, 10_000
BINARY = (b"content-type", b"application/octet-stream")


async def files_serve(request: Request, caller: Caller, route: Route, store: FileStore) -> None:
    """Answer whatever is asked of files. Errors: 403 `key_required` for client tokens."""
    key_required(caller)
    match route.action:
        case Action.FILES if request.method == "POST":
            await _upload(request, caller, store)
        case Action.FILES:
            await _list(request, caller, store)
        case Action.FILE if request.method == "DELETE":
            await store.delete(caller.org_id, route.argument)
            gone = {"id": route.argument, "object": "file", "deleted": True}
            await request.reply(200, orjson.dumps(gone))
        case Action.FILE:
            file = await store.get(caller.org_id, route.argument)
            await request.reply(200, orjson.dumps(file_object(file)))
        case _:
            await _content(request, caller, store, route.argument)


def file_object(file: StoredFile) -> dict[str, Any]:
    """OpenAI's file object."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": int(file.created_at.timestamp()),
        "expires_at": int(file.expires_at.timestamp()),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def page_object(rows: list[Any], *, limit: int, shape: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """A page of OpenAI's lists, of up to one row more than it shows."""
    data = [shape(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }


async def _upload(request: Request, caller: Caller, store: FileStore) -> None:
    size = most_bytes(request)
    with refused_unread(True):
        writer = await store.writer(caller.org_id, caller.key_id, purpose=UPLOADED, most_bytes=size)
    try:
        with refused_unread(True):
            await store.room_check(caller.org_id)
        file = await upload_read(request, writer)
    except BaseException:
        with suppress(GatewayError):  # what is left is swept up later
            await writer.drop()
        raise
    await request.reply(200, orjson.dumps(file_object(file)))


async def _list(request: Request, caller: Caller, store: FileStore) -> None:
    query = query_read(request)
    asked = page_read(query, default=DEFAULT_LIMIT, most=MAX_LIMIT)
    rows = await store.page(caller.org_id, asked, purpose=text_read(query, "purpose"))
    await request.reply(200, orjson.dumps(page_object(rows, limit=asked.limit, shape=file_object)))


async def _content(request: Request, caller: Caller, store: FileStore, file_id: str) -> None:
    file = await store.get(caller.org_id, file_id)
    parts = store.read(file)
    first = await anext(parts, b"")  # a file that cannot be opened is refused, not cut off
    size = (b"content-length", str(file.size_bytes).encode())
    await request.start(200, [BINARY, size])
    await request.write(first)
    async for part in parts:
        await request.write(part)
    await request.end()
