"""The steps behind a usage page's drawing, as rows of a table, and what each is called."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kindling_console.usage_view import UsageView
from kindling_platform.usage.reports import UsageSum, sums_add

# Rows of the table: two days of hours, three months of days.
MOST = {"hour": 48, "day": 100, "month": 100}
# Hours of a longer span are told apart by their day, too.
DAYLONG = timedelta(hours=26)
ROWS = {"hour": "%Y-%m-%d %H:%M", "day": "%Y-%m-%d", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class UsageStep:
    """One row of the table."""

    name: str
    sums: UsageSum


def steps_of(view: UsageView, rows: Sequence[UsageSum]) -> list[UsageStep]:
    """The steps with usage, oldest first; they sum to all, so what does not fit is one row."""
    interval = view.question.interval
    form, first = ROWS[interval], max(0, len(rows) - MOST[interval])
    steps = [UsageStep(f"{view.local(row.at):{form}}", row) for row in rows[first:] if row.at]
    if not first:
        return steps
    plural = "s" if first > 1 else ""
    return [UsageStep(f"{first:,} {interval}{plural} before", sums_add(rows[:first])), *steps]


def step_label(view: UsageView, moment: datetime) -> str:
    """What a step is called in sentences."""
    if view.question.interval == "hour":
        long = view.question.end - view.question.start > DAYLONG
        return f"{view.local(moment):{'%-d %b %H:%M' if long else '%H:%M'}}"
    return f"{view.local(moment):{'%-d %b' if view.question.interval == 'day' else '%b %Y'}}"
