"""What the usage pages show, as their addresses say it and nothing else: span, time zone, rows, figure, filters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.buckets import local_midnight, zone_get
from kindling_platform.usage.questions import Question, question_of
from kindling_platform.usage.reports import COLUMNS, UsageSum
from kindling_platform.usage.steps import HOUR, step_ceil

DAY = timedelta(days=1)
HOURS_UP_TO = 31 * DAY
RANGES = {
    "24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days", "month": "this month",
    "last-month": "last month",
}  # fmt: skip
DAYS = {"7d": 7, "30d": 30, "90d": 90}
USUAL = "7d"
CUSTOM = "custom"
FILTERS = tuple(COLUMNS)


@dataclass(frozen=True, slots=True)
class Figure:
    """Something to draw: its name in sentences and what it is of a row; `spread` figures are means, not sums."""

    key: str
    label: str
    of: Callable[[UsageSum], int]
    spread: bool = False


FIGURES = {
    figure.key: figure
    for figure in (
        Figure("cost", "Spend", lambda row: row.cost_picousd),
        Figure("requests", "Requests", lambda row: row.requests),
        Figure("tokens", "Tokens", lambda row: row.tokens),
        Figure("latency", "Time to first token", lambda row: row.mean_first_token_ms or 0, spread=True),
    )
}


@dataclass(frozen=True, slots=True)
class UsageView:
    """A question, and how its answer is shown; `error` says why it is not the one that was asked."""

    question: Question
    range: str
    label: str
    figure: Figure
    by: str
    compare: bool
    error: str = ""

    @property
    def filters(self) -> Mapping[str, Any]:
        return self.question.only

    def local(self, moment: datetime) -> datetime:
        """A moment by the clocks of the time zone that is shown."""
        return moment.astimezone(self.question.zone)


def view_of(org: Any, asked: Mapping[str, str]) -> UsageView:
    """The view of an address; one that makes no sense shows the usual span and says so."""
    try:
        return _view(org, asked)
    except KindlingError as refused:
        view = _view(org, {})
        return UsageView(
            view.question, view.range, view.label, view.figure, view.by, view.compare, refused.message
        )


def address_of(view: UsageView, asked: Mapping[str, str], **more: str) -> str:
    """The query of the same span and filters for another page, exact to the moment."""
    kept = {name: asked[name] for name in FILTERS if asked.get(name)}
    question = view.question
    span = {"from": question.start.isoformat(), "to": question.end.isoformat(), "tz": question.zone.key}
    return urlencode({**span, **kept, **more})


def _view(org: Any, asked: Mapping[str, str]) -> UsageView:
    zone = zone_get(asked.get("tz") or "UTC")
    key, start, end, label = _span(asked, zone)
    interval = asked.get("interval") or ("hour" if end - start <= 2 * DAY else "day")
    question = question_of(
        org,
        {
            **{name: asked.get(name, "") for name in FILTERS},
            **{
                "tz": zone.key,
                "from": start.isoformat(),
                "to": step_ceil(end).isoformat(),
                "interval": interval,
            },
        },
    )
    by, compare = asked.get("by", "model"), asked.get("compare") != "off"
    if compare:
        _ = question.before.starts  # refused here, and not when it is drawn
    return UsageView(
        question=question,
        range=key,
        label=label,
        figure=FIGURES.get(asked.get("show", ""), FIGURES["cost"]),
        by=by if by in COLUMNS else "model",
        compare=compare,
    )


def _span(asked: Mapping[str, str], zone: Any) -> tuple[str, datetime, datetime, str]:
    moment = now()
    today = moment.astimezone(zone).date()
    first, last = _day(asked, "first"), _day(asked, "last")
    if first and last and last < first:
        raise KindlingError("span_invalid", f"The last day, {last}, lies before the first, {first}.")
    if first or last:
        first = first or (last or today) - 6 * DAY
        last = max(first, last or today)
        label = f"{first:%-d %b %Y} to {last:%-d %b %Y}"
        return CUSTOM, local_midnight(first, zone), local_midnight(last + DAY, zone), label
    key = asked.get("range", "")
    key = key if key in RANGES else USUAL
    month = today.replace(day=1)
    if key == "24h":
        return key, moment.replace(minute=0, second=0, microsecond=0) - 23 * HOUR, moment, RANGES[key]
    if key == "month":
        return key, local_midnight(month, zone), moment, RANGES[key]
    if key == "last-month":
        before = (month - DAY).replace(day=1)
        return key, local_midnight(before, zone), local_midnight(month, zone), RANGES[key]
    return key, local_midnight(today - (DAYS[key] - 1) * DAY, zone), moment, RANGES[key]


def _day(asked: Mapping[str, str], name: str) -> date | None:
    text = asked.get(name, "")
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
        if not 1970 <= day.year <= 9000:
            raise ValueError("out of range")
    except ValueError as error:
        raise KindlingError("time_invalid", f"{text[:20]!r} is not a day, such as 2026-01-31.") from error
    return day
