"""Which table answers which part of a span: pieces of SQL whose rows sum to it, the fewest there are.

One thing alone comes from the series, anything else from the sums by everything. Either comes from whole days of UTC,
wherever the days that are asked for begin: what lies between such a beginning and the nearest midnight of UTC is read
by the hour, and moved from the bucket on one side to the one on the other. Where that would be more to read than all
hours are, it is all hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kindling_platform.common.tenancy import HasId
from kindling_platform.usage.rollups import DAYS, FACETS, HOURS, SERIES, SERIES_DAYS, SUMS, Table
from kindling_platform.usage.steps import day_ceil, day_floor

NOTHING = "''::text"
FACET_OF = {column or "": facet for facet, column in FACETS.items()}
# What is in a day has more rows than what is in an hour; so many times as many, to say which is less to read.
DAY_WEIGHS = timedelta(hours=3)
NONE = timedelta(0)
SIGNED = ", ".join(
    f"(way.sign * part.{column})::{'numeric' if column == SUMS[-1] else 'bigint'}" for column in SUMS
)
ADDED = ", ".join(f"sum({column}) AS {column}" for column in SUMS)


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose usage, from `start` up to `end` (both where steps begin), and which values of its columns alone."""

    org: HasId
    start: datetime
    end: datetime
    only: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Piece:
    """A query for rows of a bucket's number (from 1), a value and sums, which may be less than nothing."""

    sql: str
    arguments: list[Any]


@dataclass(frozen=True, slots=True)
class _Source:
    """Two tables with the same sums, by days and by hours, how a value is called in both, and which rows are wanted."""

    days: Table
    hours: Table
    value: str
    where: str
    arguments: list[Any]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Hours between a bucket's beginning and a midnight; days give them to bucket `wrong`, they belong to `right`."""

    first: datetime
    behind: datetime
    right: int
    wrong: int


def pieces_of(scope: Scope, value: str, starts: Sequence[datetime]) -> list[Piece]:
    """The parts of a scope, by a column or none (""), in buckets that begin at `starts`; the first begins with it."""
    source = _source(scope, value)
    midnights, cuts = _cut([*starts, scope.end])
    days = midnights[-1] - midnights[0]
    weight = sum((cut.behind - cut.first for cut in cuts), start=NONE) + days.days * DAY_WEIGHS
    if days > NONE and weight < scope.end - scope.start:
        whole = _rows(scope, source, source.days, midnights[:-1], midnights[-1])
        return [whole, *([_moved(scope, source, cuts, len(starts))] if cuts else [])]
    return [_rows(scope, source, source.hours, starts, scope.end)]


def _source(scope: Scope, value: str) -> _Source:
    asked = {*scope.only, *([value] if value else [])}
    wanted = [list(values) for values in scope.only.values()]
    if len(asked) > 1:
        only = "".join(f" AND {column} = ANY(%s)" for column in scope.only)
        return _Source(DAYS, HOURS, value or NOTHING, only, wanted)
    facet = FACET_OF[next(iter(asked), "")]
    only = " AND facet = %s" + (" AND value = ANY(%s)" if wanted else "")
    return _Source(SERIES_DAYS, SERIES, "value" if value else NOTHING, only, [facet, *wanted])


def _cut(bounds: Sequence[datetime]) -> tuple[list[datetime], list[_Cut]]:
    """The midnight of UTC that is nearest to each bound, and what is between the two."""
    midnights, cuts = [], []
    for number, bound in enumerate(bounds):
        floor, ceil = day_floor(bound), day_ceil(bound)
        midnights.append(floor if bound - floor < ceil - bound else ceil)
        if midnights[-1] < bound:
            cuts.append(_Cut(floor, bound, right=number, wrong=number + 1))
        elif midnights[-1] > bound:
            cuts.append(_Cut(bound, ceil, right=number + 1, wrong=number))
    return midnights, cuts


def _rows(scope: Scope, source: _Source, table: Table, starts: Sequence[datetime], end: datetime) -> Piece:
    moment, many = table.moment, len(starts) > 1
    bucket = f"width_bucket({moment}, %s::timestamptz[])" if many else "1"
    return Piece(
        f"SELECT {bucket}, {source.value}, {', '.join(SUMS)} FROM {table.name}"  # noqa: S608  # names of ours only
        f" WHERE organisation_id = %s AND {moment} >= %s AND {moment} < %s{source.where}",
        [*([list(starts)] if many else []), scope.org.id, starts[0], end, *source.arguments],
    )


def _moved(scope: Scope, source: _Source, cuts: Sequence[_Cut], buckets: int) -> Piece:
    hour, names = source.hours.moment, "first, behind, right_one, wrong"
    # The offset keeps the planner from reading what is between once for each of the two that it is moved between.
    return Piece(
        f"SELECT way.bucket, part.value, {SIGNED}"  # noqa: S608  # names of ours only
        " FROM (SELECT cut.right_one, cut.wrong, held.* FROM"
        f" unnest(%s::timestamptz[], %s::timestamptz[], %s::int[], %s::int[]) cut ({names})"
        f" CROSS JOIN LATERAL (SELECT {source.value} AS value, {ADDED} FROM {source.hours.name}"
        f" WHERE organisation_id = %s AND {hour} >= cut.first AND {hour} < cut.behind{source.where} GROUP BY 1) held"
        " OFFSET 0) part"
        " CROSS JOIN LATERAL (VALUES (part.right_one, 1), (part.wrong, -1)) way (bucket, sign)"
        " WHERE way.bucket BETWEEN 1 AND %s",
        [
            [cut.first for cut in cuts], [cut.behind for cut in cuts], [cut.right for cut in cuts],
            [cut.wrong for cut in cuts], scope.org.id, *source.arguments, buckets,
        ],
    )  # fmt: skip
