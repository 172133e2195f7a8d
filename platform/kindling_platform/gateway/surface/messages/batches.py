"""`/v1/messages/batches`: batches in Anthropic's shape, each one like any other of a file that its requests make."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.bodies import BodyUnreadError
from kindling_platform.gateway.errors import GatewayError
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.routes import Action, Route
from kindling_platform.gateway.surface.batches.lines import Checker
from kindling_platform.gateway.surface.batches.runner import BatchRunner
from kindling_platform.gateway.surface.batches.store import Batch, BatchStore, too_many_batches
from kindling_platform.gateway.surface.fields import invalid_value
from kindling_platform.gateway.surface.files.store import (
    KEPT_S,
    UPLOADED,
    FileStore,
    StoredFile,
    key_required,
)
from kindling_platform.gateway.surface.messages.results import result_lines
from kindling_platform.gateway.surface.query import Page, page_read, query_read, text_read

ENDPOINT = "/v1/messages"
# The same id under another name, as clients know what begins so.
PREFIX, OWN_PREFIX = "msgbatch_", "batch_"
DEFAULT_LIMIT, MAX_LIMIT = 20, 1000
JSONL = (b"content-type", b"application/x-jsonl")
STATUSES = {"validating": "in_progress", "in_progress": "in_progress", "finalizing": "in_progress",
            "cancelling": "canceling"}  # fmt: skip


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """One request; its body as it was written."""

    custom_id: str
    params: msgspec.Raw


class AskedBatch(msgspec.Struct, forbid_unknown_fields=True):
    """The body that begins a batch."""

    requests: list[Asked]


class MessageBatches:
    """Answers whatever is asked of them. Errors: 403 `key_required` for client tokens."""

    def __init__(self, store: BatchStore, files: FileStore, runner: BatchRunner, *, public_url: str) -> None:
        self._store = store
        self._files = files
        self._runner = runner
        self._public_url = public_url

    async def serve(self, request: Request, caller: Caller, route: Route) -> None:
        key_required(caller)
        if route.action is Action.MESSAGE_BATCH_RESULTS:
            await self._results(request, await self._get(caller, route.argument))
            return
        match route.action:
            case Action.MESSAGE_BATCHES if request.method == "POST":
                answer = self._object(await self._create(request, caller))
                self._runner.wake()
            case Action.MESSAGE_BATCHES:
                answer = await self._list(request, caller)
            case Action.MESSAGE_BATCH_CANCEL:
                batch = await self._get(caller, route.argument)
                answer = self._object(await self._store.cancel(caller.org_id, batch.id))
                self._runner.cancelled(batch.id)
            case _ if request.method == "DELETE":
                await self._delete(await self._get(caller, route.argument))
                answer = {"id": route.argument, "type": "message_batch_deleted"}
            case _:
                answer = self._object(await self._get(caller, route.argument))
        await request.reply(200, orjson.dumps(answer))

    async def _create(self, request: Request, caller: Caller) -> Batch:
        text, total = await asyncio.to_thread(_lines_make, await request.body())
        writer = await self._files.writer(
            caller.org_id, caller.key_id, purpose=UPLOADED, most_bytes=len(text)
        )
        try:
            await self._files.room_check(caller.org_id)
            await writer.write(text)
            file = await writer.end(filename="message_batch.jsonl", purpose=UPLOADED)
            batch = await self._store.create(
                caller, endpoint=ENDPOINT, file_id=file.id, metadata=None, output_s=KEPT_S, total=total
            )
            if batch is None:
                raise too_many_batches()
        except BaseException as error:
            with suppress(GatewayError):  # what is left is swept up later
                await writer.drop()
            if isinstance(error, BodyUnreadError):  # unlike an upload's, this body was read
                raise GatewayError(error.status, error.code, error.message, headers=error.headers) from error
            raise
        return batch

    async def _get(self, caller: Caller, named: str) -> Batch:
        return await self._store.get(caller.org_id, own_id(named), endpoint=ENDPOINT)

    async def _list(self, request: Request, caller: Caller) -> dict[str, Any]:
        query = query_read(request)
        limit = page_read(
            {"limit": query["limit"]} if "limit" in query else {}, default=DEFAULT_LIMIT, most=MAX_LIMIT
        )
        before, after = (text_read(query, name) for name in ("before_id", "after_id"))
        if before and after:
            raise invalid_value("before_id", "Send before_id or after_id, not both.")
        asked = Page(limit.limit, own_id(before or after), ascending=bool(before))
        rows = await self._store.page(caller.org_id, asked, endpoint=ENDPOINT)
        shown = rows[: asked.limit]
        data = [self._object(one) for one in (reversed(shown) if asked.ascending else shown)]
        return {
            "data": data,
            "has_more": len(rows) > asked.limit,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
        }

    async def _delete(self, batch: Batch) -> None:
        """Delete a batch that is over, with its files. Errors: 409 `batch_in_progress`."""
        gone = await self._store.delete(batch)
        if gone is None:
            message = "This batch is not over. Cancel it, and delete it once it has ended."
            raise GatewayError(409, "batch_in_progress", message)
        # It may have ended, and so got files, since `batch` was read.
        for file_id in filter(None, (gone.input_file_id, gone.output_file_id, gone.error_file_id)):
            await self._files.drop(gone.organisation_id, file_id)

    async def _results(self, request: Request, batch: Batch) -> None:
        if batch.ended_at is None:
            raise GatewayError(409, "batch_in_progress", "This batch has no results yet: it is not over.")
        named = filter(None, (batch.output_file_id, batch.error_file_id))
        # Files that are gone are refused, not cut off.
        files = [await self._files.get(batch.organisation_id, file_id) for file_id in named]
        lines = self._result_lines(files)
        first = await anext(lines, b"")
        await request.start(200, [JSONL])
        await request.write(first)
        async for part in lines:
            await request.write(part)
        await request.end()

    async def _result_lines(self, files: list[StoredFile]) -> AsyncIterator[bytes]:
        for file in files:
            async for part in result_lines(self._files.read(file)):
                yield part

    def _object(self, batch: Batch) -> dict[str, Any]:
        named = PREFIX + batch.id.removeprefix(OWN_PREFIX)
        over = batch.ended_at is not None
        results = f"{self._public_url}{ENDPOINT}/batches/{named}/results" if over else None
        return {
            "id": named,
            "type": "message_batch",
            "processing_status": "ended" if over else STATUSES[batch.status],
            "request_counts": _counts(batch),
            "created_at": _moment(batch.created_at),
            "expires_at": _moment(batch.expires_at),
            "ended_at": _moment(batch.ended_at),
            "cancel_initiated_at": _moment(batch.cancelling_at),
            "archived_at": None,
            "results_url": results,
        }


def own_id(named: str) -> str:
    """The id that a batch has here, of one that clients name."""
    return OWN_PREFIX + named.removeprefix(PREFIX) if named.startswith(PREFIX) else named


def _counts(batch: Batch) -> dict[str, int]:
    """How many requests ended in which way; until the whole batch has ended, all are processing."""
    counts = {"processing": 0, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    if batch.ended_at is None:
        return counts | {"processing": batch.total}
    unmade = batch.total - batch.completed - batch.failed
    ended = counts | {"succeeded": batch.completed, "errored": batch.failed}
    ended[{"cancelled": "canceled", "expired": "expired"}.get(batch.status, "errored")] += unmade
    return ended


def _lines_make(body: bytes) -> tuple[bytes, int]:
    """The requests as the lines of a file, and how many. Errors: 400 that says what is wrong with the first."""
    try:
        asked = msgspec.json.decode(body, type=AskedBatch).requests
        lines = [_line(one) for one in asked]
    except (msgspec.MsgspecError, orjson.JSONEncodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid_value("requests", f"The body is no batch of messages: {str(error)[:200]}.") from error
    checker = Checker(ENDPOINT)
    for number, line in enumerate(lines):
        checker.take(number, line)
    checker.end()
    if checker.errors:
        first = checker.errors[0]
        where = f"requests[{first.line - 1}]" if first.line else "requests"
        raise invalid_value(where, first.message)
    return b"\n".join(lines) + b"\n", checker.total


def _line(asked: Asked) -> bytes:
    # On one line, whatever it was written on.
    params = orjson.Fragment(msgspec.json.format(bytes(asked.params), indent=-1))
    return orjson.dumps({"custom_id": asked.custom_id, "method": "POST", "url": ENDPOINT, "body": params})


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
