"""Compared movements as a table."""

from collections.abc import Iterator
from datetime import date
from typing import Any

from kindling_billing.comparing.causes import cause_get
from kindling_billing.comparing.reports import day_list, movement_list

COLUMNS = (
    "day", "id", "kind", "happened_at", "owner_id", "payment_id", "intent_id", "stripe_cents", "booked_cents",
    "moved_cents", "asked_cents", "verdict", "cause", "detail", "accepted_at", "accepted_by", "accepted_note",
)  # fmt: skip


def movement_rows(*, since: date) -> Iterator[list[Any]]:
    """Every movement since a day behind a header, one line each, in cents."""
    yield [*COLUMNS, "what_is_wrong", "next_step"]
    # Day by day, so that no query stays open while somebody reads.
    for day in day_list(since=since).values_list("day", flat=True):
        for row in movement_list(day=day):
            cause = cause_get(row.cause)
            words = [cause.title, cause.next_step] if cause else ["", ""]
            yield [*(getattr(row, name) for name in COLUMNS), *words]
