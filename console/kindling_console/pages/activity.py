"""What was done in an organisation, for its owners and admins: by whom, when, and what it changed."""

from collections.abc import Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from kindling_console.access import Visitor, page
from kindling_console.activity_words import KIND_LABELS, action_words
from kindling_console.answers import private, show
from kindling_console.changes import changes_shown
from kindling_platform.audit.changes import changes_line
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.common.tenancy import HasId
from kindling_platform.keys.activity import activity_page

BLOCK = 500
CSV_COLUMNS = ("created_at", "id", "who", "ip", "action", "target")


@page("activity.read")
def activity(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Events, newest first, of all kinds or of one."""
    kind = _kind(request)
    try:
        found = activity_page(org=visitor.org, kind=kind, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = activity_page(org=visitor.org, kind=kind)
    context = {
        "events": [(event, action_words(event.action), changes_shown(event.data)) for event in found.rows],
        "kinds": KIND_LABELS.items(),
        "kind": kind,
        "next": found.next_cursor,
    }
    return private(show(request, "console/activity.html", context))


@page("activity.read")
def activity_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every event of a kind, newest first, read in blocks while it is sent."""
    rows = _csv_rows(visitor.org, _kind(request))
    return csv_response(request, name=f"{visitor.org.slug}-activity.csv", rows=rows)


def _kind(request: HttpRequest) -> str:
    asked = request.GET.get("kind", "")
    return asked if asked in KIND_LABELS else ""


def _csv_rows(org: HasId, kind: str) -> Iterator[list[Any]]:
    yield [*CSV_COLUMNS, "details"]
    cursor = ""
    while True:
        found = activity_page(org=org, kind=kind, cursor=cursor, limit=BLOCK)
        for event in found.rows:
            yield [*(getattr(event, name) for name in CSV_COLUMNS), changes_line(event.data)]
        cursor = found.next_cursor
        if not cursor:
            return
