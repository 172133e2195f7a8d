"""What can be done with a kept response: read it, list its input, delete it."""

from typing import Any

import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.surface.fields import invalid_value, unsupported
from kindling_platform.gateway.surface.query import page_read, query_read
from kindling_platform.gateway.surface.responses.background import Background
from kindling_platform.gateway.surface.responses.items import Item
from kindling_platform.gateway.surface.responses.store import ResponseStore

DEFAULT_LIMIT, MAX_LIMIT = 20, 100


async def response_get(request: Request, caller: Caller, store: ResponseStore, response_id: str) -> None:
    """Answer with a response."""
    query = query_read(request)
    if query.get("stream", "false") != "false":
        raise unsupported("stream", "A kept response is not streamed again; leave stream out.")
    stored = await store.get(caller, response_id)
    await request.reply(200, orjson.dumps(stored.body))


async def response_delete(
    request: Request, caller: Caller, store: ResponseStore, response_id: str, *, jobs: Background
) -> None:
    """Delete a response; one that is being made is cancelled."""
    await store.delete(caller, response_id)
    jobs.leave(response_id)
    gone = {"id": response_id, "object": "response.deleted", "deleted": True}
    await request.reply(200, orjson.dumps(gone))


async def response_cancel(
    request: Request, caller: Caller, store: ResponseStore, response_id: str, *, jobs: Background
) -> None:
    """End a response that is made in the background; one that has ended stays as it is."""
    stored = await store.get(caller, response_id)
    if not stored.body.get("background"):
        message = "Only a response that was asked for with background true can be cancelled."
        raise GatewayError(400, "unsupported_operation", message, param="background")
    runs = stored.body["status"] in ("queued", "in_progress")
    if runs and await store.move(caller, stored.body | {"status": "cancelled"}, ends=True):
        jobs.leave(response_id)
        stored = await store.get(caller, response_id)
    await request.reply(200, orjson.dumps(stored.body))


async def response_items(request: Request, caller: Caller, store: ResponseStore, response_id: str) -> None:
    """Answer with a page of the items that a response was asked with, newest first unless the order says otherwise."""
    asked = page_read(query_read(request), default=DEFAULT_LIMIT, most=MAX_LIMIT)
    items = (await store.get(caller, response_id)).items
    page = items_page(items, after=asked.after, limit=asked.limit, newest_first=not asked.ascending)
    await request.reply(200, orjson.dumps(page))


def items_page(items: list[Item], *, after: str, limit: int, newest_first: bool) -> dict[str, Any]:
    """A page of items behind the one with the id `after`. Errors: 400 where none has it."""
    ordered = items[::-1] if newest_first else items
    start = 0
    if after:
        start = next((place + 1 for place, item in enumerate(ordered) if item["id"] == after), 0)
        if not start:
            raise invalid_value("after", f"after names no item of this response: {after[:80]!r}.")
    page = ordered[start : start + limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else "",
        "last_id": page[-1]["id"] if page else "",
        "has_more": start + limit < len(ordered),
    }
