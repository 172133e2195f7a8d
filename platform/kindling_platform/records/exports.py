"""Records that wait as rows of a table, the heading first."""

from collections.abc import Iterator
from typing import Any

from kindling_platform.common.pagination import page_get
from kindling_platform.records.kinds import Kind
from kindling_platform.records.remedies import remedy_of

BLOCK = 500


def record_rows(kind: Kind) -> Iterator[list[Any]]:
    """Every record of a kind with what to do about it, newest first."""
    yield [*kind.columns, "what_to_do"]
    cursor = ""
    while True:
        found = page_get(kind.find(), order=kind.order, cursor=cursor, limit=BLOCK)
        for row in found.rows:
            yield [*(getattr(row, name) for name in kind.columns), remedy_of(kind.key, row)]
        cursor = found.next_cursor
        if not cursor:
            return
