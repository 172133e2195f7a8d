"""The audit log as a table."""

from collections.abc import Iterator
from typing import Any

from kindling_platform.audit.changes import changes_line
from kindling_platform.audit.selectors import EventFilter, event_find
from kindling_platform.common.pagination import page_get

ORDER = ("created_at", "id")
BLOCK = 500
COLUMNS = (
    "created_at", "id", "actor_id", "actor_label", "ip", "request_id", "action", "target", "organisation_id",
)  # fmt: skip


def event_rows(wanted: EventFilter) -> Iterator[list[Any]]:
    """Every event that a filter lets pass, newest first, behind a header; read a block at a time."""
    yield [*COLUMNS, "details"]
    cursor = ""
    while True:
        found = page_get(event_find(wanted=wanted), order=ORDER, cursor=cursor, limit=BLOCK)
        for event in found.rows:
            yield [*(getattr(event, name) for name in COLUMNS), changes_line(event.data)]
        cursor = found.next_cursor
        if not cursor:
            return
