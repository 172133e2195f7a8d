"""`/v1/batches`: begin, list, read and cancel batches, in OpenAI's shape."""

from typing import Any

import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routes import Action, Route
from kindling_platform.gateway.surface.batches.objects import WINDOW, batch_object
from kindling_platform.gateway.surface.batches.runner import BatchRunner
from kindling_platform.gateway.surface.batches.store import BatchStore, too_many_batches
from kindling_platform.gateway.surface.body import object_read
from kindling_platform.gateway.surface.fields import Fields, invalid_value
from kindling_platform.gateway.surface.files.routes import page_object
from kindling_platform.gateway.surface.files.store import KEPT_S, UPLOADED, FileStore, key_required
from kindling_platform.gateway.surface.files.upload import kept_read
from kindling_platform.gateway.surface.metadata import metadata_read
from kindling_platform.gateway.surface.query import page_read, query_read

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")


async def batches_serve(
    request: Request,
    caller: Caller,
    route: Route,
    store: BatchStore,
    *,
    files: FileStore,
    runner: BatchRunner,
) -> None:
    """Answer whatever is asked of batches. Errors: 403 `key_required` for client tokens."""
    key_required(caller)
    match route.action:
        case Action.BATCHES if request.method == "POST":
            answer = await _create(request, caller, store, files)
            runner.wake()
        case Action.BATCHES:
            asked = page_read(query_read(request), default=DEFAULT_LIMIT, most=MAX_LIMIT)
            rows = await store.page(caller.org_id, asked)
            answer = page_object(rows, limit=asked.limit, shape=batch_object)
        case Action.BATCH:
            answer = batch_object(await store.get(caller.org_id, route.argument))
        case _:
            answer = batch_object(await store.cancel(caller.org_id, route.argument))
            runner.cancelled(route.argument)
    await request.reply(200, orjson.dumps(answer))


async def _create(request: Request, caller: Caller, store: BatchStore, files: FileStore) -> dict[str, Any]:
    fields = Fields(object_read(await request.body()))
    endpoint = fields.need_text("endpoint")
    if endpoint not in ENDPOINTS:
        raise invalid_value("endpoint", f"endpoint has to be one of {', '.join(ENDPOINTS)}.")
    if fields.need_text("completion_window") != WINDOW:
        raise invalid_value("completion_window", f"completion_window has to be {WINDOW}.")
    file_id, metadata, output_s = fields.need_text("input_file_id"), _metadata(fields), KEPT_S
    if expiry := fields.inside("output_expires_after"):
        output_s = kept_read(expiry.take("anchor"), expiry.take("seconds"), "output_expires_after")
        expiry.end()
    fields.end()
    file = await files.get(caller.org_id, file_id)
    if file.purpose != UPLOADED:
        raise invalid_value(
            "input_file_id", f"This file's purpose is {file.purpose}; it has to be {UPLOADED}."
        )
    batch = await store.create(
        caller, endpoint=endpoint, file_id=file.id, metadata=metadata, output_s=output_s
    )
    if batch is None:
        await files.get(caller.org_id, file_id)  # it may have been deleted meanwhile
        raise too_many_batches()
    return batch_object(batch)


def _metadata(fields: Fields) -> dict[str, str] | None:
    given = metadata_read(fields)
    if any("\0" in name + text for name, text in given.items()):
        raise invalid_value("metadata", "metadata holds a null character.")
    return given or None
