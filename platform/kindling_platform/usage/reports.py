"""Reads the roll-ups: totals, breakdowns and series over a span, filtered or not; never a single request."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connection

from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.pieces import Scope, pieces_of
from kindling_platform.usage.rollups import DIMENSIONS, SUMS

# What usage can be grouped by, and the column behind it. A member is whoever made the key.
COLUMNS = dict(zip(("model", "adapter", "key", "status"), DIMENSIONS, strict=True)) | {"member": "key_id"}
SUMS_OF = attrgetter(*SUMS)
# Counts as whole numbers at once; money may be larger than those are.
ADDED = ", ".join(f"sum({column}){'' if column == SUMS[-1] else '::bigint'}" for column in SUMS)


class UsageSum(NamedTuple):
    """Sums of one group in one bucket; times are milliseconds, cost is pico-dollars.

    A tuple, since there may be ten thousand of them, and a frozen dataclass takes ten times as long to make.
    """

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
    at: datetime | None = None

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


def total_get(scope: Scope) -> UsageSum:
    """Sums over a span."""
    found = _read(scope, "", ())
    return found[0] if found else UsageSum()


def group_list(scope: Scope, by: str) -> list[UsageSum]:
    """Sums by model, adapter, key, member or status, the dearest first.

    Raises:
        KindlingError: `group_unknown`.
    """
    return _dearest_first(_read(scope, by, ()))


def series_list(scope: Scope, starts: Sequence[datetime], by: str = "") -> list[UsageSum]:
    """Sums of each bucket that holds any, in the order of time; `starts` begins with the scope's.

    Raises:
        KindlingError: `group_unknown`.
    """
    return sorted(_read(scope, by, starts), key=lambda row: (row.at, -row.cost_picousd, row.group))


def series_and_groups(
    scope: Scope, starts: Sequence[datetime], by: str
) -> tuple[list[UsageSum], list[UsageSum]]:
    """Sums of each bucket, and of each group over all of them: `series_list` and `group_list`.

    Two filters leave nothing that has a series, so that both have the same rows to read, and read them once.

    Raises:
        KindlingError: `group_unknown`.
    """
    if len(scope.only) < 2:
        return series_list(scope, starts), group_list(scope, by)
    rows = _read(scope, by, starts, grouping="GROUPING SETS ((1), (2))")
    series = sorted((row for row in rows if row.at is not None), key=attrgetter("at"))
    return series, _dearest_first(row for row in rows if row.at is None)


def sums_add(rows: Sequence[UsageSum], *, group: str = "", at: datetime | None = None) -> UsageSum:
    """Several sums as one."""
    if not rows:
        return UsageSum(group, at=at)
    return UsageSum._make((group, *map(sum, zip(*map(SUMS_OF, rows), strict=True)), at))


def _dearest_first(rows: Iterable[UsageSum]) -> list[UsageSum]:
    return sorted(rows, key=lambda row: (-row.cost_picousd, -row.requests, row.group))


def _read(scope: Scope, by: str, starts: Sequence[datetime], *, grouping: str = "1, 2") -> list[UsageSum]:
    if by and by not in COLUMNS:
        raise KindlingError("group_unknown", f"Group by one of {', '.join(COLUMNS)}.", param="group_by")
    moments = starts or [scope.start]
    pieces = pieces_of(scope, COLUMNS.get(by, ""), moments)
    group, join, organisation = "value", "", []
    if by == "member":
        group = "coalesce(made.created_by_id, '')"
        join = f"LEFT JOIN {ApiKey._meta.db_table} made ON made.id = value AND made.organisation_id = %s"
        organisation = [scope.org.id]
    union = " UNION ALL ".join(piece.sql for piece in pieces)
    query = (
        f"SELECT bucket, {group}, {ADDED} FROM ({union}) used (bucket, value, {', '.join(SUMS)}) {join}"  # noqa: S608
        f" GROUP BY {grouping} HAVING sum(requests) <> 0 OR sum(cost_picousd) <> 0"
    )
    with connection.cursor() as cursor:
        cursor.execute(query, [*chain.from_iterable(piece.arguments for piece in pieces), *organisation])
        rows = cursor.fetchall()
    return [
        UsageSum._make((group or "", *counts, int(cost), moments[bucket - 1] if starts and bucket else None))
        for bucket, group, *counts, cost in rows
    ]
