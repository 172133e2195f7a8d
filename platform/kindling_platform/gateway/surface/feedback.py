"""`POST /v1/feedback`: what somebody thought of an answer, kept beside what it used."""

import time
from typing import Any
from uuid import UUID

import orjson

from kindling_platform.common.ids import request_id_read
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.database import Database, DatabaseUnavailableError
from kindling_platform.gateway.errors import GatewayError, books_unavailable
from kindling_platform.gateway.request import Request
from kindling_platform.gateway.surface.body import object_read
from kindling_platform.gateway.surface.fields import Fields, invalid_value, missing_field

MAX_LABEL_CHARS = 64
# So long after its request an opinion may come before the usage is booked; ids carry their time.
PENDING_S = 3600
AHEAD_S = 300
WRITE = (
    "WITH known AS (SELECT org_id FROM gateway_request WHERE request_id = %(request)s)"
    " INSERT INTO usage_feedback (organisation_id, request_id, key_id, score, label, created_at, updated_at)"
    " SELECT %(org)s::varchar, %(request)s, %(key)s, %(score)s::double precision, %(label)s, now(), now()"
    " WHERE NOT EXISTS (SELECT 1 FROM known WHERE org_id <> %(org)s::varchar)"
    " AND (%(recent)s OR EXISTS (SELECT 1 FROM known))"
    " ON CONFLICT (organisation_id, request_id) DO UPDATE"
    " SET key_id = excluded.key_id, score = excluded.score, label = excluded.label, updated_at = now()"
    " RETURNING EXISTS (SELECT 1 FROM known) AS known"
)


async def feedback_post(request: Request, caller: Caller, database: Database) -> None:
    """Store a score, a label or both; the last opinion about a request holds. Errors: 400, 404 `request_not_found`."""
    fields = Fields(object_read(await request.body()))
    named = fields.need_text("request_id")
    score, label = _score(fields), _label(fields)
    fields.end()
    if score is None and not label:
        raise missing_field("score")
    request_id = request_id_read(named)
    values = {
        "request": request_id,
        "org": caller.org_id,
        "key": caller.key_id,
        "score": score,
        "label": label,
        "recent": request_id is not None and is_recent(request_id, now_s=time.time()),
    }
    try:
        found = await database.rows(WRITE, values) if request_id else []
    except DatabaseUnavailableError as error:
        raise books_unavailable() from error
    if not found:
        message = f"There is no request {named[:80]!r} of your organisation."
        raise GatewayError(404, "request_not_found", message, param="request_id")
    status = "recorded" if found[0]["known"] else "pending"
    answer = {"object": "feedback", "request_id": str(request_id), "score": score, "label": label or None}
    await request.reply(200, orjson.dumps(answer | {"status": status}))


def is_recent(request_id: UUID, *, now_s: float) -> bool:
    """Whether an id was made so lately that its request may still be on its way into the books."""
    if request_id.version != 7:
        return False
    made_s = (request_id.int >> 80) / 1000
    return now_s - PENDING_S <= made_s <= now_s + AHEAD_S


def _score(fields: Fields) -> float | None:
    value: Any = fields.take("score")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise invalid_value("score", "score has to be a number from 0, bad, to 1, good.")
    return float(value)


def _label(fields: Fields) -> str:
    label = fields.text("label", chars=MAX_LABEL_CHARS) or ""
    if not label.isprintable():
        raise invalid_value("label", "label has to be printable text.")
    return label
