"""Moves the roll-ups, always in the transaction that moves the requests behind them.

One function does it for every cause: a request is booked, rated anew, or given back. Whoever knows it before and
after says both; what is taken out and put in again may lie in different rows.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection

from kindling_platform.usage.models import UsageDay, UsageEvent, UsageHour, UsageSeries, UsageSeriesDay
from kindling_platform.usage.steps import day_floor, step_floor

SUMS = (
    "requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "duration_ms", "first_token_ms",
    "timed", "cost_picousd",
)  # fmt: skip
DIMENSIONS = ("model_id", "adapter_id", "key_id", "finish")
# What a row of the series is about, and the column of a request that says which.
FACETS = {"all": None, "model": "model_id", "adapter": "adapter_id", "key": "key_id", "status": "finish"}
MILLISECOND = timedelta(milliseconds=1)
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one request adds to every sum it is in, as it was when this was taken."""

    organisation_id: str
    finished_at: datetime
    values: tuple[str, str, str, str]
    sums: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A roll-up's table, the columns that make a row of it, and which of them says when."""

    name: str
    key: tuple[str, ...]
    moment: str

    @property
    def types(self) -> tuple[str, ...]:
        """Those of its key."""
        return tuple("timestamptz" if column == self.moment else "text" for column in self.key)


HOURS = Table(UsageHour._meta.db_table, ("organisation_id", "hour", *DIMENSIONS), "hour")
DAYS = Table(UsageDay._meta.db_table, ("organisation_id", "day", *DIMENSIONS), "day")
SERIES = Table(UsageSeries._meta.db_table, ("organisation_id", "facet", "step", "value"), "step")
SERIES_DAYS = Table(UsageSeriesDay._meta.db_table, ("organisation_id", "facet", "day", "value"), "day")
TABLES = (HOURS, DAYS, SERIES, SERIES_DAYS)


def part_of(event: UsageEvent) -> Part:
    """What a request adds as it is now."""
    first = event.first_token_at
    return Part(
        organisation_id=event.organisation_id,
        finished_at=event.finished_at,
        values=(event.model_id, event.adapter_id, event.key_id, event.finish),
        sums=(
            1, int(not event.billable), event.prompt_tokens, event.cached_tokens, event.completion_tokens,
            _milliseconds(event.started_at, event.finished_at),
            _milliseconds(event.started_at, first) if first else 0, int(first is not None), event.cost_picousd,
        ),
    )  # fmt: skip


def rollups_move(*, before: Iterable[Part] = (), after: Iterable[Part]) -> None:
    """Take requests out of the roll-ups as they were and put them in as they are; call it inside a transaction."""
    moved: dict[Table, dict[Key, list[int]]] = {
        table: defaultdict(lambda: [0] * len(SUMS)) for table in TABLES
    }
    for sign, parts in ((-1, before), (1, after)):
        for part in parts:
            for table, key in _rows_of(part):
                row = moved[table][key]
                for column, value in enumerate(part.sums):
                    row[column] += sign * value
    for table, rows in moved.items():
        _add(table, [(*key, *row) for key, row in sorted(rows.items()) if any(row)])


def _rows_of(part: Part) -> Iterable[tuple[Table, Key]]:
    owner, step, day = part.organisation_id, step_floor(part.finished_at), day_floor(part.finished_at)
    values = dict(zip(DIMENSIONS, part.values, strict=True))
    yield HOURS, (owner, step, *part.values)
    yield DAYS, (owner, day, *part.values)
    for facet, column in FACETS.items():
        value = values[column] if column else ""
        yield SERIES, (owner, facet, step, value)
        yield SERIES_DAYS, (owner, facet, day, value)


def _add(table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
    """Add to rows of a table, in the order of their keys, so that two who do so never wait for each other."""
    if not rows:
        return
    columns = (*table.key, *SUMS)
    types = (*table.types, *["bigint"] * (len(SUMS) - 1), "numeric")
    arrays = ", ".join(f"%s::{kind}[]" for kind in types)
    sums = ", ".join(f"{column} = {table.name}.{column} + excluded.{column}" for column in SUMS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT * FROM unnest({arrays})"  # noqa: S608  # ours
            f" ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {sums}",
            [list(column) for column in zip(*rows, strict=True)],
        )


def _milliseconds(start: datetime, end: datetime) -> int:
    # Two clocks may disagree; a time is never less than nothing.
    return max(0, (end - start) // MILLISECOND)
