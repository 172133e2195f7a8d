"""Pages by cursor: the key of the last row seen, never a page number or a count."""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet

from kindling_platform.common.errors import KindlingError

PAGE_ROWS = 50
MAX_PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the cursor of the rest ("" at the end)."""

    rows: Sequence[Any]
    next_cursor: str


def page_get(
    rows: QuerySet[Any], *, order: tuple[str, str], cursor: str = "", limit: int = PAGE_ROWS
) -> Page:
    """A page of rows in descending order of two fields, the second of which is unique.

    Raises:
        KindlingError: cursor_invalid.
    """
    first, second = order
    limit = max(1, min(limit, MAX_PAGE_ROWS))
    rows = rows.order_by(f"-{first}", f"-{second}")
    if cursor:
        a, b = cursor_read(cursor)
        try:
            # The bound says nothing new, but an index can begin there; it cannot with an alternative alone.
            bound = Q(**{f"{first}__lte": a})
            rows = rows.filter(bound, Q(**{f"{first}__lt": a}) | Q(**{first: a, f"{second}__lt": b}))
        except (ValueError, TypeError, ValidationError) as error:
            raise _invalid() from error
    found = list(rows[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    following = _encode(getattr(found[-1], first), getattr(found[-1], second)) if more else ""
    return Page(found, following)


def cursor_read(cursor: str) -> tuple[Any, Any]:
    """The two fields of the row that a cursor names, as JSON has them.

    Raises:
        KindlingError: cursor_invalid.
    """
    try:
        a, b = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        # Text that a database cannot be asked about: half a character, or its end.
        if b"\0" in f"{a}{b}".encode():
            raise _invalid()
    except (binascii.Error, ValueError, TypeError) as error:
        raise _invalid() from error
    return a, b


def _encode(a: Any, b: Any) -> str:
    text = json.dumps([a.isoformat() if hasattr(a, "isoformat") else a, str(b)])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _invalid() -> KindlingError:
    return KindlingError(
        "cursor_invalid", "This page's address is not valid; start from the first page.", param="cursor"
    )
