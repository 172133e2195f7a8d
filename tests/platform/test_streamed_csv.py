"""CSV that is made while it is sent, to servers of both kinds."""

import csv
import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import AsyncRequestFactory, RequestFactory

from kindling_platform.common.streamed_csv import BLOCK_LINES, csv_cell, csv_line, csv_response

ROWS = 3 * BLOCK_LINES + 7


class Source:
    """Rows that note how far they were read, and by which thread."""

    def __init__(self) -> None:
        self.made = 0
        self.threads: set[int] = set()

    def rows(self) -> Iterator[list[Any]]:
        yield ["number", "text"]
        for number in range(ROWS):
            self.made = number + 1
            self.threads.add(threading.get_ident())
            yield [number, f'a "{number}", b']


def parsed(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_server_without_a_loop_gets_blocks_as_they_are_made():
    source = Source()
    reply = csv_response(RequestFactory().get("/"), name="a.csv", rows=source.rows())
    blocks = iter(reply)
    first = next(blocks).decode()
    assert source.made < BLOCK_LINES
    rows = parsed(first + b"".join(blocks).decode())
    assert [int(row["number"]) for row in rows] == list(range(ROWS))
    assert rows[5]["text"] == 'a "5", b'
    assert (reply["Content-Disposition"], reply["Cache-Control"]) == (
        'attachment; filename="a.csv"', "no-store",
    )  # fmt: skip


async def test_a_server_with_a_loop_gets_them_too_and_its_loop_stays_free():
    source = Source()
    request = AsyncRequestFactory().get("/")
    assert isinstance(request, ASGIRequest)
    reply = csv_response(request, name="a.csv", rows=source.rows())
    assert reply.is_async
    text = b"".join([block async for block in reply]).decode()
    assert len(parsed(text)) == ROWS
    assert threading.get_ident() not in source.threads


async def test_a_client_that_leaves_ends_it():
    source = Source()
    reply = csv_response(AsyncRequestFactory().get("/"), name="a.csv", rows=source.rows())
    async for _ in reply:
        break
    reply.close()
    assert source.made <= BLOCK_LINES


def test_no_rows_are_an_empty_file():
    assert b"".join(csv_response(RequestFactory().get("/"), name="a.csv", rows=iter([]))) == b""


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@x", "'@x"),
        ("\t=1", "'\t=1"),
        ('a,"b"', '"a,""b"""'),
        ("two\nlines", '"two\nlines"'),
        (-5, "-5"),
        (None, ""),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    ],
)
def test_cells_are_plain_and_harmless(value: Any, cell: str):
    assert csv_cell(value) == cell


def test_a_line_ends_as_the_format_wants_it():
    assert csv_line([1, "a"]) == "1,a\r\n"
