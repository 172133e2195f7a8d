"""Reads the query of a list: how much of it, and where it goes on."""

from dataclasses import dataclass
from urllib.parse import parse_qs

from kindling_platform.gateway.request import Request
from kindling_platform.gateway.surface.fields import invalid_value

MAX_TEXT = 100


@dataclass(frozen=True, slots=True)
class Page:
    """So many rows behind the one with the id `after`, newest first unless `ascending`."""

    limit: int
    after: str
    ascending: bool


def query_read(request: Request) -> dict[str, str]:
    """The query's fields; of one that occurs twice the last. Errors: 400 `invalid_value`."""
    text = bytes(request.scope.get("query_string", b"")).decode("latin-1")
    try:
        return {name: values[-1] for name, values in parse_qs(text, max_num_fields=20).items()}
    except ValueError as error:
        raise invalid_value("query", "The query has too many fields.") from error


def page_read(query: dict[str, str], *, default: int, most: int) -> Page:
    """`limit`, `after` and `order` of a query. Errors: 400 that name the field."""
    limit, order = query.get("limit", str(default)), query.get("order", "desc")
    is_number = limit.isascii() and limit.isdigit() and len(limit) <= len(str(most))
    if not (is_number and 1 <= int(limit) <= most):
        raise invalid_value("limit", f"limit has to be an integer from 1 to {most}.")
    if order not in ("asc", "desc"):
        raise invalid_value("order", "order has to be asc or desc.")
    return Page(int(limit), text_read(query, "after"), ascending=order == "asc")


def text_read(query: dict[str, str], name: str) -> str:
    """A short text of a query, "" without one. Errors: 400 that names the field, also for what Postgres refuses."""
    text = query.get(name, "")
    if len(text) > MAX_TEXT or not text.isprintable():
        raise invalid_value(name, f"{name} has to be a text of up to {MAX_TEXT} printable characters.")
    return text
