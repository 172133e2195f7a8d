"""Spool frames as rows of Postgres: one per request id, written once, whatever is sent twice."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import msgspec

from kindling_engine.protocol.usage_log import UsageRecord
from kindling_platform.gateway.spool.frames import Frame, Kind

# A request that turns out to be our failure is free, whatever was said of it before.
INSERT = (
    "INSERT INTO usage_spooledusage (request_id, source, verdict, record, shipped_at)"
    " SELECT one.id, %(source)s, one.verdict, one.record, now()"
    " FROM json_to_recordset(%(rows)s::json) AS one (id uuid, verdict text, record text)"
    " ON CONFLICT (request_id) DO UPDATE SET verdict = excluded.verdict, booked_at = NULL"
    " WHERE excluded.verdict = 'void' AND usage_spooledusage.verdict <> 'void'"
)
OPEN = "open"
VERDICTS = {Kind.CLOSED: "closed", Kind.CUT: "cut", Kind.VOID: "void"}


class Checkpoint(msgspec.Struct):
    """What a running request had used when the frame was written."""

    prompt_tokens: int
    completion_tokens: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one request; `record` is a usage record as JSON."""

    request_id: UUID
    verdict: str
    record: bytes


def row_of(frame: Frame) -> Row:
    """The row of a frame that ends a request."""
    return Row(frame.request_id, VERDICTS[frame.kind], frame.data)


def row_open(request_id: UUID, opened: bytes, checkpoint: bytes | None) -> Row:
    """The row of a request whose gateway died: what its last checkpoint says, if the engine's log says nothing."""
    record = msgspec.json.decode(opened, type=UsageRecord)
    if checkpoint is not None:
        last = msgspec.json.decode(checkpoint, type=Checkpoint)
        record.prompt_tokens, record.completion_tokens = last.prompt_tokens, last.completion_tokens
        record.finished_ms = last.at_ms
    return Row(request_id, OPEN, msgspec.json.encode(record))


def insert_values(source: str, rows: Iterable[Row]) -> dict[str, str]:
    """The values of INSERT; of several rows about one request the one that makes it free counts, else the first."""
    by_id: dict[UUID, Row] = {}
    for row in rows:
        known = by_id.get(row.request_id)
        if known is None or (row.verdict == "void" and known.verdict != "void"):
            by_id[row.request_id] = row
    told = [
        {"id": str(row.request_id), "verdict": row.verdict, "record": row.record.decode()}
        for row in by_id.values()
    ]
    # One JSON text: the driver would write arrays element by element, for a tenth of a request's CPU.
    return {"source": source, "rows": msgspec.json.encode(told).decode()}
