"""Reads the roll-ups: totals, breakdowns and series over a span, filtered or not; never a single request.

A span is cut where that is cheapest: whole days of UTC come from the days, what is left at its ends from the hours,
and what asks for one thing alone from the series. Every way sums to the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import connection

from kindling_platform.common.errors import KindlingError
from kindling_platform.common.tenancy import HasId
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.rollups import DAYS, DIMENSIONS, HOURS, SERIES, SUMS, Table
from kindling_platform.usage.steps import day_ceil, day_floor

# What usage can be grouped by, and the column behind it. A member is whoever made the key.
COLUMNS = dict(zip(("model", "adapter", "key", "status"), DIMENSIONS, strict=True)) | {"member": "key_id"}
NOTHING = "''::text"
FACET_OF = {"model_id": "model", "adapter_id": "adapter", "key_id": "key", "finish": "status"}


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Sums of one group in one bucket; times are milliseconds, cost is pico-dollars."""

    group: Any = ""
    requests: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    duration_ms: int = 0
    first_token_ms: int = 0
    timed: int = 0
    cost_picousd: int = 0
    at: datetime | None = field(default=None, kw_only=True)

    @property
    def tokens(self) -> int:
        """Tokens in and out."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def mean_first_token_ms(self) -> int | None:
        """How long the first token took on average; None where none came."""
        return round(self.first_token_ms / self.timed) if self.timed else None

    @property
    def mean_duration_ms(self) -> int | None:
        """How long a request took on average; None without requests."""
        return round(self.duration_ms / self.requests) if self.requests else None


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose usage, from `start` up to `end` (both where steps begin), and which values of its columns alone."""

    org: HasId
    start: datetime
    end: datetime
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)


def total_get(scope: Scope) -> UsageSum:
    """Sums over a span."""
    found = _read(scope, "", ())
    return found[0] if found else UsageSum()


def group_list(scope: Scope, by: str) -> list[UsageSum]:
    """Sums by model, adapter, key, member or status, the dearest first.

    Raises:
        KindlingError: `group_unknown`.
    """
    return sorted(_read(scope, by, ()), key=lambda row: (-row.cost_picousd, -row.requests, row.group))


def series_list(scope: Scope, starts: Sequence[datetime], by: str = "") -> list[UsageSum]:
    """Sums of each bucket that holds any, in the order of time; `starts` begins with the scope's.

    Raises:
        KindlingError: `group_unknown`.
    """
    return sorted(_read(scope, by, starts), key=lambda row: (row.at, -row.cost_picousd, row.group))


def sums_add(rows: Sequence[UsageSum], *, group: str = "", at: datetime | None = None) -> UsageSum:
    """Several sums as one."""
    return UsageSum(group, *(sum(getattr(row, column) for row in rows) for column in SUMS), at=at)


def _read(scope: Scope, by: str, starts: Sequence[datetime]) -> list[UsageSum]:
    if by and by not in COLUMNS:
        raise KindlingError("group_unknown", f"Group by one of {', '.join(COLUMNS)}.", param="group_by")
    value = COLUMNS.get(by, "")
    pieces, values = [], []
    for sql, arguments in _pieces(scope, value, starts):
        pieces.append(sql)
        values += arguments
    bucket = "width_bucket(at, %s::timestamptz[])" if starts else "0"
    group, join = "value", ""
    if by == "member":
        group = "coalesce(made.created_by_id, '')"
        join = f"LEFT JOIN {ApiKey._meta.db_table} made ON made.id = value AND made.organisation_id = %s"
    sums = ", ".join(f"sum({column})" for column in SUMS)
    query = (
        f"SELECT {bucket}, {group}, {sums} FROM ({' UNION ALL '.join(pieces)}) used {join}"  # noqa: S608  # ours
        " GROUP BY 1, 2 HAVING sum(requests) <> 0 OR sum(cost_picousd) <> 0"
    )
    arguments = [*([list(starts)] if starts else []), *values, *([scope.org.id] if join else [])]
    with connection.cursor() as cursor:
        cursor.execute(query, arguments)
        rows = cursor.fetchall()
    return [
        UsageSum(group, *(int(value) for value in sums), at=starts[bucket - 1] if starts else None)
        for bucket, group, *sums in rows
    ]


def _pieces(scope: Scope, value: str, starts: Sequence[datetime]) -> list[tuple[str, list[Any]]]:
    """The parts of the span, each from the table that answers it with the fewest rows."""
    asked = {*scope.only, *([value] if value else [])}
    whole_days = all(day_floor(moment) == moment for moment in starts[1:])
    if len(asked) <= 1 and not (value and whole_days):
        return [_series(scope, asked.pop() if asked else "", value)]
    first, last = day_ceil(scope.start), day_floor(scope.end)
    if not whole_days or first >= last:
        return [_piece(scope, value, HOURS, scope.start, scope.end)]
    return [
        _piece(scope, value, DAYS, first, last),
        _piece(scope, value, HOURS, scope.start, first),
        _piece(scope, value, HOURS, last, scope.end),
    ]


def _piece(scope: Scope, value: str, table: Table, start: datetime, end: datetime) -> tuple[str, list[Any]]:
    moment = table.key[1]
    only = "".join(f" AND {column} = ANY(%s)" for column in scope.only)
    return (
        f"SELECT {moment} AS at, {value or NOTHING} AS value, {', '.join(SUMS)} FROM {table.name}"  # noqa: S608
        f" WHERE organisation_id = %s AND {moment} >= %s AND {moment} < %s{only}",
        [scope.org.id, start, end, *_wanted(scope)],
    )


def _series(scope: Scope, column: str, value: str) -> tuple[str, list[Any]]:
    only = " AND value = ANY(%s)" if scope.only else ""
    return (
        f"SELECT step AS at, {'value' if value else NOTHING} AS value, {', '.join(SUMS)}"  # noqa: S608  # ours
        f" FROM {SERIES.name} WHERE organisation_id = %s AND facet = %s AND step >= %s AND step < %s{only}",
        [scope.org.id, FACET_OF.get(column, "all"), scope.start, scope.end, *_wanted(scope)],
    )


def _wanted(scope: Scope) -> list[list[str]]:
    return [list(values) for values in scope.only.values()]
