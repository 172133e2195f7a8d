"""Reads a request's body as it comes: blocks, never the whole, and the part that it claims to be."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from rest_framework.request import Request

from kindling_billing.pooled import connection_lend
from kindling_platform.common.bodies import SCOPE_KEY, Body
from kindling_platform.common.errors import KindlingError

BLOCK_BYTES = 256 * 1024
CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})")


@dataclass(frozen=True, slots=True)
class Part:
    """Where a body belongs in its file, in bytes; `size` and `total` are None when the client does not say."""

    offset: int
    size: int | None
    total: int | None


def part_of(request: Request) -> Part:
    """The part that Content-Range names, else the whole file.

    Raises:
        KindlingError: `range_mismatch`, also when Content-Length contradicts the range.
    """
    length_text = request.META.get("CONTENT_LENGTH") or ""
    length = int(length_text) if length_text.isdigit() else None
    text = request.headers.get("Content-Range")
    if text is None:
        return Part(0, length, length)
    match = CONTENT_RANGE.fullmatch(text.strip())
    first, last, total = (int(number) for number in match.groups()) if match else (1, 0, 0)
    if not first <= last < total or (length is not None and length != last - first + 1):
        raise KindlingError(
            "range_mismatch",
            "Content-Range must read 'bytes first-last/total' and describe as many bytes as are sent.",
            416,
            param="Content-Range",
        )
    return Part(first, last - first + 1, total)


def blocks_of(request: Request) -> Iterator[bytes]:
    """The raw body, block by block."""
    plain = request._request
    stream: Body = getattr(plain, "scope", {}).get(SCOPE_KEY, plain)
    while block := _read(stream):
        yield block


def _read(stream: Body) -> bytes:
    connection_lend()  # a client may take an hour
    return stream.read(BLOCK_BYTES)
