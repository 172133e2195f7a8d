"""Responses that are kept: written when complete, read by their own organisation only."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson

from kindling_platform.common.org_seal import SealBrokenError, SealedTooLongError
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.database import SETTLED_OF_REQUEST, Database, DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.surface.body import INLINE_BODY_BYTES
from kindling_platform.gateway.surface.fields import invalid_value, unsupported
from kindling_platform.gateway.surface.responses.items import Item
from kindling_platform.gateway.surface.responses.output import Response, response_fail, usage_block
from kindling_platform.responses.seal import Seal

T = TypeVar("T")
DEFAULT_DAYS = 30
PREFIX = "resp_"
RESPONSE_ID = re.compile(PREFIX + "[0-9a-f]{32}")
MAX_TURNS = 1000
# Of a conversation as it is stored; beyond it no model could read it.
MAX_BYTES = 16 * 1024 * 1024
MAX_OPEN_BYTES = 32 * 1024 * 1024
LEASE_S = 20.0
CUT = ("cancelled", "failed")
DIED = "The process that made this response has died. Ask again; what was made of it is settled like any request."
INSERT = (
    "INSERT INTO responses_storedresponse"
    " (id, organisation_id, key_id, previous_id, body, input, created_at, expires_at)"
    " SELECT %(id)s, %(org)s, %(key)s, %(previous)s, %(body)s, %(input)s, now(),"
    " now() + make_interval(days => kept.days)"
    " FROM (SELECT coalesce((SELECT days FROM responses_retention WHERE organisation_id = %(org)s), %(days)s))"
    " AS kept (days) WHERE kept.days > 0 ON CONFLICT (id) DO NOTHING RETURNING id"
)
# A response that is made in the background, from its first moment; while it is, its process renews the lease.
OPEN = INSERT.replace("expires_at)", "expires_at, status, leased_until)", 1).replace(
    "now() + make_interval(days => kept.days)",
    "now() + make_interval(days => kept.days), 'running', now() + make_interval(secs => %(lease_s)s)",
)
MOVE = (
    "UPDATE responses_storedresponse SET body = %(body)s, status = %(status)s"
    " WHERE id = %(id)s AND organisation_id = %(org)s AND status = 'running' RETURNING id"
)
RENEW = (
    "UPDATE responses_storedresponse SET leased_until = now() + make_interval(secs => %(lease_s)s)"
    " WHERE id = %(id)s AND status = 'running' RETURNING id"
)
READ = (
    "SELECT body, input, status = 'running' AND leased_until < now() AS died FROM responses_storedresponse"
    " WHERE id = %s AND organisation_id = %s AND expires_at > now()"
)
# No body where all of them are too much to be read.
SAID = (
    "SELECT id, CASE WHEN sum(octet_length(body)) OVER () < %(bytes)s THEN body END AS body"
    " FROM responses_storedresponse"
    " WHERE id = ANY(%(ids)s) AND organisation_id = %(org)s AND expires_at > now() AND status <> 'running'"
)
DELETE = "DELETE FROM responses_storedresponse WHERE id = %s AND organisation_id = %s RETURNING id"
# From the newest turn back to the first. A turn that is gone ends the walk early, which the caller sees.
TURNS = (
    "WITH RECURSIVE turn AS ("
    " SELECT id, previous_id, body, input, status, 1 AS depth, octet_length(body) + octet_length(input) AS size"
    " FROM responses_storedresponse"
    " WHERE id = %(id)s AND organisation_id = %(org)s AND expires_at > now()"
    " UNION ALL SELECT one.id, one.previous_id, one.body, one.input, one.status, turn.depth + 1,"
    " turn.size + octet_length(one.body) + octet_length(one.input)"
    " FROM responses_storedresponse one JOIN turn ON one.id = turn.previous_id"
    " WHERE one.organisation_id = %(org)s AND one.expires_at > now()"
    " AND turn.depth < %(turns)s AND turn.size < %(bytes)s)"
    " SELECT id, previous_id, body, input, status = 'running' AS runs FROM turn ORDER BY depth DESC"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A response as it was answered, and the items of its own turn."""

    body: Response
    items: list[Item]


class ResponseStore:
    """Rows of Postgres, sealed; every query names the caller's organisation.

    A client token is in a stranger's hands, and the organisation's conversations are none of theirs: it can keep, read
    and continue nothing (403 `key_required`).
    """

    def __init__(self, database: Database, secret: str, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self._seal = Seal(secret)
        self.lease_s = lease_s

    async def put(self, caller: Caller, response: Response, items: list[Item]) -> bool:
        """Keep a response for as long as its organisation wants; False where that is not at all, or not possible."""
        if caller.token is not None:
            return False
        try:
            return bool(await self._database.rows(INSERT, await self._values(caller, response, items)))
        except DatabaseUnavailableError:
            return False

    async def get(self, caller: Caller, response_id: str) -> Stored:
        """A response. Errors: 404 `response_not_found`, for those of others as well."""
        rows = await self._rows(READ, [response_id, caller.org_id], caller, response_id)
        if not rows:
            raise response_not_found(response_id)
        row = rows[0] | {"id": response_id}
        try:
            stored = await _beside(_size(row), lambda: _Reading(self._seal, caller.org_id).row(row))
        except (SealBrokenError, SealedTooLongError) as error:
            raise response_not_found(response_id) from error
        if row["died"]:
            stored = Stored(response_fail(stored.body, code="server_error", message=DIED), stored.items)
        return await self._settled(caller, stored)

    async def open(self, caller: Caller, response: Response, items: list[Item]) -> None:
        """Keep a response that is still to be made.

        Raises:
            GatewayError: 400 `unsupported_field` where the organisation keeps none, 403 `key_required`, 503.
        """
        values = await self._values(caller, response, items) | {"lease_s": self.lease_s}
        if not await self._rows(OPEN, values, caller, response["id"]):
            message = "A response with background true has to be kept, and this organisation keeps none."
            raise unsupported("background", message)

    async def move(self, caller: Caller, response: Response, *, ends: bool) -> bool:
        """Write what became of a response that is being made; False when it has ended, or is gone. Errors: 503."""
        values = {
            "id": response["id"],
            "org": caller.org_id,
            "body": await self._sealed(caller.org_id, response["id"], "body", response),
            "status": "ended" if ends else "running",
        }
        return bool(await self._rows(MOVE, values, caller, response["id"]))

    async def renew(self, response_id: str) -> bool:
        """Go on making a response; False when nobody wants it any more. Errors: DatabaseUnavailableError."""
        return bool(await self._database.rows(RENEW, {"id": response_id, "lease_s": self.lease_s}))

    async def delete(self, caller: Caller, response_id: str) -> None:
        """Delete a response. Errors: 404 `response_not_found`."""
        if not await self._rows(DELETE, [response_id, caller.org_id], caller, response_id):
            raise response_not_found(response_id)

    async def conversation(self, caller: Caller, response_id: str) -> list[Item]:
        """All items up to the end of a response, oldest first.

        Errors: 404 where it or one before it is gone, 400 for more than `MAX_BYTES`.
        """
        if not response_id:
            return []
        values = {"id": response_id, "org": caller.org_id, "turns": MAX_TURNS, "bytes": MAX_BYTES}
        rows = await self._rows(TURNS, values, caller, response_id)
        if sum(map(_size, rows)) >= MAX_BYTES:
            raise conversation_too_long()
        if not rows or rows[0]["previous_id"]:
            raise previous_not_found(response_id)
        if any(row["runs"] for row in rows):
            raise invalid_value("previous_response_id", "The response before this one has not ended yet.")
        try:
            return await _beside(sum(map(_size, rows)), lambda: self._items(caller.org_id, rows))
        except SealBrokenError as error:
            raise previous_not_found(response_id) from error
        except SealedTooLongError as error:
            raise conversation_too_long() from error

    async def said(self, caller: Caller, response_ids: list[str]) -> list[Item]:
        """All output of those of these responses that are kept. Errors: 400 for more than `MAX_BYTES`."""
        if not response_ids:
            return []
        values = {"ids": response_ids, "org": caller.org_id, "bytes": MAX_BYTES}
        rows = await self._rows(SAID, values, caller, response_ids[0])
        if any(row["body"] is None for row in rows):
            raise items_too_long()

        def read() -> list[Item]:
            items: list[Item] = []
            reading = _Reading(self._seal, caller.org_id)
            for row in rows:
                with suppress(SealBrokenError):
                    items += reading.column(row, "body")["output"]
            return items

        try:
            return await _beside(sum(len(row["body"]) for row in rows), read)
        except SealedTooLongError as error:
            raise items_too_long() from error

    async def _settled(self, caller: Caller, stored: Stored) -> Stored:
        """With the usage that the books know, where the response ended before its answer could say it.

        That is some seconds later, and only of what is paid for. One that was begun anew stands in the books under
        another id, and tells none.
        """
        body = stored.body
        if body.get("usage") is not None or body["status"] not in CUT or not body.get("background"):
            return stored
        request_id = body["id"].removeprefix(PREFIX)
        rows = await self._rows(SETTLED_OF_REQUEST, [caller.org_id, request_id], caller, body["id"])
        if not rows:
            return stored
        counts = rows[0]
        usage = usage_block(
            counts
            | {
                "prompt_tokens_details": {"cached_tokens": counts["cached_tokens"]},
                "completion_tokens_details": {"reasoning_tokens": counts["reasoning_tokens"]},
            }
        )
        return replace(stored, body=body | {"usage": usage})

    async def _rows(self, query: str, values: Any, caller: Caller, response_id: str) -> list[dict[str, Any]]:
        if caller.token is not None:
            message = (
                "A client token cannot use kept responses. Use an API key, or send the conversation as input."
            )
            raise GatewayError(403, "key_required", message)
        if not RESPONSE_ID.fullmatch(response_id):
            return []
        try:
            return await self._database.rows(query, values)
        except DatabaseUnavailableError as error:
            raise books_unavailable() from error

    async def _values(self, caller: Caller, response: Response, items: list[Item]) -> dict[str, Any]:
        return {
            "id": response["id"],
            "org": caller.org_id,
            "key": caller.key_id,
            "previous": response["previous_response_id"] or "",
            "body": await self._sealed(caller.org_id, response["id"], "body", response),
            "input": await self._sealed(caller.org_id, response["id"], "input", items),
            "days": DEFAULT_DAYS,
        }

    async def _sealed(self, org_id: str, response_id: str, column: str, said: Any) -> bytes:
        text = orjson.dumps(said)
        return await _beside(
            len(text),
            lambda: self._seal.close(text, org_id=org_id, response_id=response_id, column=column),
        )

    def _items(self, org_id: str, rows: list[dict[str, Any]]) -> list[Item]:
        items: list[Item] = []
        reading = _Reading(self._seal, org_id)
        for row in rows:
            stored = reading.row(row)
            items += stored.items
            items += stored.body["output"]
        return items


class _Reading:
    """Opens rows that one request asks for, up to `MAX_OPEN_BYTES` of all together: sealed they are compressed."""

    def __init__(self, seal: Seal, org_id: str) -> None:
        self._seal = seal
        self._org_id = org_id
        self._left = MAX_OPEN_BYTES

    def row(self, row: dict[str, Any]) -> Stored:
        """Errors: SealBrokenError, SealedTooLongError."""
        return Stored(self.column(row, "body"), self.column(row, "input"))

    def column(self, row: dict[str, Any], column: str) -> Any:
        """Errors: SealBrokenError, SealedTooLongError."""
        stored, id_ = bytes(row[column]), row["id"]
        text = self._seal.open(
            stored, org_id=self._org_id, response_id=id_, column=column, most_bytes=self._left
        )
        self._left -= len(text)
        return orjson.loads(text)


async def _beside(size: int, work: Callable[[], T]) -> T:
    """Do it at once, or beside the loop where there is much of it."""
    return work() if size < INLINE_BODY_BYTES else await asyncio.to_thread(work)


def _size(row: dict[str, Any]) -> int:
    return len(row["body"]) + len(row["input"])


def conversation_too_long() -> GatewayError:
    message = "The conversation before this turn is too long. Send the part of it that matters as input."
    return GatewayError(400, "context_length_exceeded", message, param="previous_response_id")


def items_too_long() -> GatewayError:
    message = "The items that input refers to are too long. Send those that matter."
    return GatewayError(400, "context_length_exceeded", message, param="input")


def response_not_found(response_id: str) -> GatewayError:
    message = f"There is no response {response_id[:80]!r}, or it is no longer kept."
    return GatewayError(404, "response_not_found", message)


def previous_not_found(response_id: str) -> GatewayError:
    message = (
        f"The response {response_id[:80]!r}, or one before it, is not kept. Send the conversation as input."
    )
    return GatewayError(404, "previous_response_not_found", message, param="previous_response_id")
