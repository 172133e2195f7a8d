"""Tables as CSV that is sent while it is read: never whole in memory, and no connection held while a client reads."""

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse

BLOCK_LINES = 500
# A leading sign, a tab or a return would make a spreadsheet read a name as a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_response(request: HttpRequest, *, name: str, rows: Iterable[Iterable[Any]]) -> StreamingHttpResponse:
    """A download named `name` of rows that are made while it is sent; the first is the header.

    What makes the rows should ask the database in short queries: in between its connection is given back.
    """
    blocks = _blocks(iter(rows))
    content = _in_a_thread(blocks) if isinstance(request, ASGIRequest) else blocks
    response = StreamingHttpResponse(content, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


def csv_line(values: Iterable[Any]) -> str:
    """One line of cells, with its end."""
    return ",".join(csv_cell(value) for value in values) + "\r\n"


def csv_cell(value: Any) -> str:
    """A value as a cell: nothing for None, moments in ISO 8601, and no text that a spreadsheet would run."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    text = f"'{text}" if text.startswith(FORMULA_STARTS) else text
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(sign in text for sign in ',"\r\n') else text


def _blocks(rows: Iterator[Iterable[Any]]) -> Iterator[str]:
    while lines := [csv_line(row) for row in islice(rows, BLOCK_LINES)]:
        yield "".join(lines)


async def _in_a_thread(blocks: Iterator[str]) -> AsyncIterator[str]:
    while (block := await sync_to_async(_pull)(blocks)) is not None:
        yield block


def _pull(blocks: Iterator[str]) -> str | None:
    try:
        return next(blocks, None)
    finally:
        close_old_connections()
