"""The log's rows as SQL. Nothing is kept behind a switch-off: the setting's row is locked while its requests go in."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

WANTED = "SELECT organisation_id FROM requestlog_logsetting WHERE days > 0"
INSERT = (
    "INSERT INTO requestlog_loggedrequest (request_id, organisation_id, key_id, model_name, route, status,"
    " size_bytes, sealed, created_at, expires_at)"
    " SELECT one.request_id, one.organisation_id, one.key_id, one.model_name, one.route, one.status,"
    " one.size_bytes, one.sealed, one.created_at, one.created_at + make_interval(days => kept.days)"
    " FROM unnest(%(request_id)s::uuid[], %(organisation_id)s::text[], %(key_id)s::text[], %(model_name)s::text[],"
    " %(route)s::text[], %(status)s::int[], %(size_bytes)s::int[], %(sealed)s::bytea[], %(created_at)s::timestamptz[])"
    " AS one (request_id, organisation_id, key_id, model_name, route, status, size_bytes, sealed, created_at)"
    " JOIN requestlog_logsetting kept ON kept.organisation_id = one.organisation_id WHERE kept.days > 0"
    " FOR SHARE OF kept ON CONFLICT (request_id) DO NOTHING RETURNING request_id"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One request as it is kept."""

    request_id: UUID
    organisation_id: str
    key_id: str
    model_name: str
    route: str
    status: int
    size_bytes: int
    sealed: bytes
    created_at: datetime


def insert_values(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """A list for each column."""
    return {name: [getattr(row, name) for row in rows] for name in Row.__slots__}
