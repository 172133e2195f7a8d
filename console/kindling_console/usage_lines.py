"""The breakdown of a usage page: one line per name, what it was before, and where it leads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kindling_platform.usage.names import BASE, GONE, OUTCOMES, name_map
from kindling_platform.usage.questions import MAX_VALUES
from kindling_platform.usage.reports import UsageSum, sums_add

MOST = 100


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One row of the breakdown; `values` filter the requests behind it, "" when they cannot be named."""

    name: str
    sums: UsageSum
    before: UsageSum
    values: str = ""


def lines_of(org: Any, by: str, sums: Sequence[UsageSum], before: Sequence[UsageSum]) -> list[UsageLine]:
    """The lines of a breakdown, the dearest first; they sum to all, so what is beyond the first hundred is one line.

    Things of the same name are one line: the playground makes a key every few minutes, and all are called the same.
    """
    names = name_map(org=org, by=by)
    named, earlier = _named(by, sums, names), _named(by, before, names)
    lines = [
        UsageLine(name, sums_add(rows), sums_add(earlier.get(name, [])), _values(by, rows))
        for name, rows in named.items()
    ]
    lines += [
        UsageLine(name, UsageSum(), sums_add(rows)) for name, rows in earlier.items() if name not in named
    ]
    lines.sort(key=lambda line: (-line.sums.cost_picousd, -line.sums.requests, -line.before.cost_picousd))
    rest = lines[MOST:]
    if not rest:
        return lines
    others = UsageLine(
        f"{len(rest):,} others",
        sums_add([line.sums for line in rest]),
        sums_add([line.before for line in rest]),
    )
    return [*lines[:MOST], others]


def _named(by: str, sums: Sequence[UsageSum], names: Any) -> dict[str, list[UsageSum]]:
    named: dict[str, list[UsageSum]] = {}
    for row in sums:
        named.setdefault(names.get(row.group, GONE[by]), []).append(row)
    return named


def _values(by: str, rows: Sequence[UsageSum]) -> str:
    ids = [row.group or (BASE if by == "adapter" else "") for row in rows]
    known = all(ids) if by != "status" else OUTCOMES.keys() >= set(ids)
    return ",".join(ids) if known and len(ids) <= MAX_VALUES else ""
