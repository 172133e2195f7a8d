"""Batches in Postgres: whoever works on one has its lease, and writes nothing once that is lost."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from kindling_platform.batches.bounds import MAX_ACTIVE, WINDOW_S
from kindling_platform.common.ids import uuid7
from kindling_platform.gateway.admission import Usage
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.database import Database, DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.surface.batches import queries
from kindling_platform.gateway.surface.query import Page

LEASE_S = 20.0
BATCH_ID = re.compile(r"batch_[0-9a-f]{32}")
PAGE_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Batch:
    """A row of batches_batch."""

    id: str
    organisation_id: str
    key_id: str
    key_digest: bytes = field(repr=False)
    endpoint: str
    input_file_id: str
    output_file_id: str
    error_file_id: str
    model_name: str
    metadata: dict[str, str] | None = field(repr=False)
    output_s: int
    status: str
    waits_for: str
    errors: list[dict[str, Any]] | None
    total: int
    completed: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    stored_bytes: int
    lease: UUID | None
    leased_until: datetime | None
    due_at: datetime
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    cancelling_at: datetime | None
    ended_at: datetime | None


COLUMNS = tuple(one.name for one in fields(Batch))


class LeaseLostError(Exception):
    """Somebody else works on the batch, or it is gone."""


class BatchStore:
    """What callers ask. Errors of every method: 503 `database_unavailable`, 404 `batch_not_found`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self,
        caller: Caller,
        *,
        endpoint: str,
        file_id: str,
        metadata: dict[str, str] | None,
        output_s: int,
        total: int = 0,
    ) -> Batch | None:
        """A new batch; None where there are too many, or its file is gone. `total`: its lines, where they are known."""
        values = {
            "id": f"batch_{uuid7().hex}", "org": caller.org_id, "key": caller.key_id, "digest": caller.digest,
            "endpoint": endpoint, "file": file_id, "metadata": None if metadata is None else Jsonb(metadata),
            "output_s": output_s, "window_s": WINDOW_S, "kept_s": 2 * WINDOW_S, "most": MAX_ACTIVE,
            "total": total,
        }  # fmt: skip
        rows = await self._rows(queries.INSERT, values)
        return batch_from_row(rows[0]) if rows else None

    async def get(self, org_id: str, batch_id: str, *, endpoint: str = "") -> Batch:
        """A batch, of one endpoint alone where it is named."""
        _check_id(batch_id)
        rows = await self._rows(queries.READ, {"id": batch_id, "org": org_id, "endpoint": endpoint})
        if not rows:
            raise batch_not_found(batch_id)
        return batch_from_row(rows[0])

    async def page(self, org_id: str, asked: Page, *, endpoint: str = "") -> list[Batch]:
        """Up to one batch more than were asked for."""
        query = queries.OLDEST if asked.ascending else queries.NEWEST
        values = {"org": org_id, "after": asked.after, "limit": asked.limit + 1, "endpoint": endpoint}
        return [batch_from_row(row) for row in await self._rows(query, values)]

    async def delete(self, batch: Batch) -> Batch | None:
        """Delete a batch that is over; gives what it was at last, None for one that is not over."""
        rows = await self._rows(queries.DELETE, {"id": batch.id, "org": batch.organisation_id})
        return batch_from_row(rows[0]) if rows else None

    async def cancel(self, org_id: str, batch_id: str) -> Batch:
        """Have a batch end with what it has. Errors: 409 `batch_over`."""
        _check_id(batch_id)
        rows = await self._rows(queries.CANCEL, {"id": batch_id, "org": org_id})
        if rows:
            return batch_from_row(rows[0])
        batch = await self.get(org_id, batch_id)
        if batch.status not in ("cancelling", "cancelled"):
            raise GatewayError(
                409, "batch_over", f"This batch is {batch.status} and cannot be cancelled any more."
            )
        return batch

    async def _rows(self, query: LiteralString | str, values: dict[str, Any]) -> list[dict[str, Any]]:
        try:
            return await self._database.rows(query, values)
        except DatabaseUnavailableError as error:
            raise books_unavailable() from error


class WorkStore:
    """What whoever works on a batch writes. Errors of every method: DatabaseUnavailableError."""

    def __init__(self, database: Database, *, lease_s: float = LEASE_S) -> None:
        self._database = database
        self.lease_s = lease_s

    async def claim(self, lease: UUID, *, full: Collection[str] = ()) -> Batch | None:
        """A batch that nobody works on, if one is due, of an organisation that is not among the `full` ones."""
        values = {"lease": lease, "lease_s": self.lease_s, "full": list(full)}
        rows = await self._database.rows(queries.CLAIM, values)
        return batch_from_row(rows[0]) if rows else None

    async def renew(self, batch: Batch) -> str:
        """Go on working; gives the batch's status, which may be `cancelling` by now. Errors: LeaseLostError."""
        return str((await self._mine(batch, queries.RENEW, lease_s=self.lease_s))["status"])

    async def park(self, batch: Batch, *, waits_for: str, wait_s: float) -> None:
        """Let go of a batch for a while. Errors: LeaseLostError."""
        await self._mine(batch, queries.PARK, waits_for=waits_for, wait_s=wait_s)

    async def begin(self, batch: Batch, *, total: int, model: str) -> bool:
        """Its lines are sound; False for one that was cancelled meanwhile. Errors: LeaseLostError."""
        values = {"id": batch.id, "lease": batch.lease, "total": total, "model": model}
        return (
            bool(await self._database.rows(queries.BEGIN, values)) or await self.renew(batch) != "cancelling"
        )

    async def put(
        self, batch: Batch, number: int, sealed: bytes, *, failed: bool, usage: Usage | None
    ) -> int:
        """What became of a line; of one that has a result already, nothing changes.

        Gives what all results have together, in bytes as they are stored; 0 where nothing was changed.
        """
        used = usage or Usage(0, 0, 0)
        values = {
            "id": batch.id, "lease": batch.lease, "number": number, "failed": failed, "sealed": sealed,
            "prompt_tokens": used.prompt_tokens, "cached_tokens": used.cached_tokens,
            "completion_tokens": used.completion_tokens, "reasoning_tokens": used.reasoning_tokens,
        }  # fmt: skip
        rows = await self._database.rows(queries.PUT, values)
        return int(rows[0]["stored_bytes"]) if rows else 0

    async def done(self, batch: Batch) -> set[int]:
        """The numbers of the lines that have a result."""
        return {row["number"] for row in await self._database.rows(queries.DONE, {"id": batch.id})}

    async def results(self, batch: Batch, *, start: int, limit: int) -> list[dict[str, Any]]:
        """Some results in the order of their lines, as they are stored."""
        values = {"id": batch.id, "start": start, "limit": limit, "most_bytes": PAGE_BYTES}
        return await self._database.rows(queries.RESULTS, values)

    async def finalize(self, batch: Batch) -> str:
        """All lines that will have a result have one; gives the status. Errors: LeaseLostError."""
        return str((await self._mine(batch, queries.FINALIZE))["status"])

    async def end(
        self,
        batch: Batch,
        status: str,
        *,
        output: str = "",
        error: str = "",
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        """It is over, and its files can be seen. Errors: LeaseLostError."""
        told = None if errors is None else Jsonb(errors)
        await self._mine(batch, queries.END, status=status, output=output, error=error, errors=told)
        while await self._database.rows(queries.FORGET, {"id": batch.id}):
            pass

    async def _mine(self, batch: Batch, query: str, **values: Any) -> dict[str, Any]:
        rows = await self._database.rows(query, {"id": batch.id, "lease": batch.lease, **values})
        if not rows:
            raise LeaseLostError
        return rows[0]


def batch_from_row(row: dict[str, Any]) -> Batch:
    return Batch(**{name: row[name] for name in COLUMNS})


def batch_not_found(batch_id: str) -> GatewayError:
    """404 for a batch that there is not, or that belongs to others."""
    return GatewayError(404, "batch_not_found", f"There is no batch {batch_id[:80]!r} of your organisation.")


def too_many_batches() -> GatewayError:
    """429 while an organisation has as many at work as it may."""
    message = (
        f"{MAX_ACTIVE} batches of your organisation are not over. Wait for some of them, or cancel them."
    )
    return GatewayError(429, "too_many_batches", message, headers={"retry-after": "60"})


def _check_id(batch_id: str) -> None:
    if not BATCH_ID.fullmatch(batch_id):
        raise batch_not_found(batch_id)
