"""Which table answers which part of a span: pieces of SQL whose rows sum to it, the fewest there are.

One thing alone comes from the series. Anything else comes from whole days of UTC, wherever the days that are asked
for begin: what lies between such a beginning and the nearest midnight of UTC is read by the hour, and moved from the
bucket on one side to the one on the other. Where that would be more to read than all hours are, it is all hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kindling_platform.common.tenancy import HasId
from kindling_platform.usage.rollups import DAYS, FACETS, HOURS, SERIES, SUMS, Table
from kindling_platform.usage.steps import day_ceil, day_floor

NOTHING = "''::text"
FACET_OF = {column or "": facet for facet, column in FACETS.items()}
# Columns with few values: a day has fewer rows of them in the series than of everything in the days.
FEW = {"", "model_id", "finish"}
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
class _Cut:
    """Hours between a bucket's beginning and a midnight; days give them to bucket `wrong`, they belong to `right`."""

    first: datetime
    behind: datetime
    right: int
    wrong: int


def pieces_of(scope: Scope, value: str, starts: Sequence[datetime]) -> list[Piece]:
    """The parts of a scope, by a column or none (""), in buckets that begin at `starts`; the first begins with it."""
    asked = {*scope.only, *([value] if value else [])}
    column = next(iter(asked), "") if len(asked) <= 1 else None
    if column is not None and column in FEW:
        return [_series(scope, column, value, starts)]
    midnights, cuts = _cut([*starts, scope.end])
    days = midnights[-1] - midnights[0]
    weight = sum((cut.behind - cut.first for cut in cuts), start=NONE) + days.days * DAY_WEIGHS
    if days > NONE and weight < scope.end - scope.start:
        whole = _rows(scope, DAYS, value, midnights[:-1], midnights[-1])
        return [whole, *([_moved(scope, value, cuts, len(starts))] if cuts else [])]
    if column:
        return [_series(scope, column, value, starts)]
    return [_rows(scope, HOURS, value, starts, scope.end)]


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


def _rows(scope: Scope, table: Table, value: str, starts: Sequence[datetime], end: datetime) -> Piece:
    moment = table.key[1]
    bucket, moments = _bucket(moment, starts)
    return Piece(
        f"SELECT {bucket}, {value or NOTHING}, {', '.join(SUMS)} FROM {table.name}"  # noqa: S608  # names of ours only
        f" WHERE organisation_id = %s AND {moment} >= %s AND {moment} < %s{_only(scope)}",
        [*moments, scope.org.id, starts[0], end, *_wanted(scope)],
    )


def _series(scope: Scope, column: str, value: str, starts: Sequence[datetime]) -> Piece:
    bucket, moments = _bucket("step", starts)
    return Piece(
        f"SELECT {bucket}, {'value' if value else NOTHING}, {', '.join(SUMS)} FROM {SERIES.name}"  # noqa: S608  # ours
        " WHERE organisation_id = %s AND facet = %s AND step >= %s AND step < %s"
        + (" AND value = ANY(%s)" if scope.only else ""),
        [*moments, scope.org.id, FACET_OF[column], scope.start, scope.end, *_wanted(scope)],
    )


def _moved(scope: Scope, value: str, cuts: Sequence[_Cut], buckets: int) -> Piece:
    return Piece(
        f"SELECT way.bucket, part.value, {SIGNED}"  # noqa: S608  # names of ours only
        " FROM unnest(%s::timestamptz[], %s::timestamptz[], %s::int[], %s::int[]) cut (first, behind, right_one, wrong)"
        f" CROSS JOIN LATERAL (SELECT {value or NOTHING} AS value, {ADDED} FROM {HOURS.name}"
        f" WHERE organisation_id = %s AND hour >= cut.first AND hour < cut.behind{_only(scope)} GROUP BY 1) part"
        " CROSS JOIN LATERAL (VALUES (cut.right_one, 1), (cut.wrong, -1)) way (bucket, sign)"
        " WHERE way.bucket BETWEEN 1 AND %s",
        [
            [cut.first for cut in cuts], [cut.behind for cut in cuts], [cut.right for cut in cuts],
            [cut.wrong for cut in cuts], scope.org.id, *_wanted(scope), buckets,
        ],
    )  # fmt: skip


def _bucket(moment: str, starts: Sequence[datetime]) -> tuple[str, list[Any]]:
    return (f"width_bucket({moment}, %s::timestamptz[])", [list(starts)]) if len(starts) > 1 else ("1", [])


def _only(scope: Scope) -> str:
    return "".join(f" AND {column} = ANY(%s)" for column in scope.only)


def _wanted(scope: Scope) -> list[list[str]]:
    return [list(values) for values in scope.only.values()]
