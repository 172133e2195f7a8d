"""Who did what, when, to what, from where, and what was there before and after."""

from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from kindling_console.access import Visitor, page
from kindling_console.answers import private, show
from kindling_console.changes import changes_shown
from kindling_platform.accounts.selectors import organisation_id_of, organisation_map
from kindling_platform.audit.exports import ORDER, event_rows
from kindling_platform.audit.selectors import EventFilter, event_find
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.common.streamed_csv import csv_response

FIELDS = ("org", "who", "action", "target", "from", "since", "until")
MOST_CHARS = 120


@page("operator")
def audit(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Events, newest first; every filter is in the URL."""
    asked = _asked(request)
    rows = event_find(wanted=_filter(asked))
    try:
        found = page_get(rows, order=ORDER, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(rows, order=ORDER)
    context = {
        "events": [(event, changes_shown(event.data)) for event in found.rows],
        "organisations": organisation_map(organisation_ids=[event.organisation_id for event in found.rows]),
        "asked": asked,
        "query": urlencode(asked),
        "plain_query": urlencode({name: value for name, value in asked.items() if name != "money"}),
        "next": found.next_cursor,
        "fields": [(name, LABELS[name], asked.get(name, "")) for name in FIELDS],
    }
    return private(show(request, "console/operator_audit.html", context))


LABELS = {
    "org": "Organisation", "who": "Who", "action": "Action", "target": "To what", "from": "Address or request",
    "since": "From day", "until": "To day",
}  # fmt: skip


@page("operator")
def audit_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every event that the filters let pass, newest first."""
    return csv_response(request, name="kindling-audit.csv", rows=event_rows(_filter(_asked(request))))


def _asked(request: HttpRequest) -> dict[str, str]:
    given = {name: request.GET.get(name, "").strip()[:MOST_CHARS] for name in (*FIELDS, "money")}
    return {name: value.replace("\0", "") for name, value in given.items() if value}


def _filter(asked: dict[str, str]) -> EventFilter:
    until = _day(asked.get("until", ""))
    return EventFilter(
        organisation_id=organisation_id_of(asked.get("org", "")),
        actor=asked.get("who", ""),
        action=asked.get("action", ""),
        target=asked.get("target", ""),
        origin=asked.get("from", ""),
        since=_day(asked.get("since", "")),
        until=until + timedelta(days=1) if until else None,
        only_money=asked.get("money") == "1",
    )


YEARS = range(2000, 2200)


def _day(text: str) -> datetime | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # Some databases, and the day after the last one, have no other years.
    return datetime.combine(day, time(), UTC) if day.year in YEARS else None
