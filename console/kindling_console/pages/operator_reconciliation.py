"""Whether the payment provider, clearing and the outbox say the same, by day and by movement, and if not why."""

from datetime import date, timedelta
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_billing.comparing.causes import cause_get
from kindling_billing.comparing.reports import contact_get, day_get, day_list, difference_list, movement_list
from kindling_billing.comparing.rows import movement_rows
from kindling_billing.errors import BillingError
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.sure import sure_recently
from kindling_platform.accounts import treasury
from kindling_platform.accounts.decisions import difference_settle
from kindling_platform.accounts.provider import is_stand_in, provider_find
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.common.streamed_csv import csv_response

RANGES = ((7, "7 days"), (30, "30 days"), (90, "90 days"), (366, "12 months"))
DIFFERENCES_SHOWN = 100


@page("operator", methods=("GET", "POST"))
def reconciliation(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The days of a span and all that differs; a post compares now. What is shown was kept: no provider is asked."""
    if request.method == "POST":
        return _compare(request)
    days = _days(request)
    rows = list(day_list(since=_since(days)))
    differences = list(difference_list()[:DIFFERENCES_SHOWN])
    context = {
        "payments_on": provider_find() is not None,
        "is_stand_in": is_stand_in(),
        "days": days,
        "ranges": RANGES,
        "rows": rows,
        "totals": {name: sum(getattr(row, name) for row in rows) for name in ("movements", "waiting", *SUMS)},
        "contact": contact_get(),
        "differences": _explained(differences),
        "differing": difference_list().count(),
        "organisations": organisation_map(organisation_ids=[row.owner_id for row in differences]),
    }
    return show(request, "console/operator_reconciliation.html", context)


SUMS = ("stripe_cents", "booked_cents", "moved_cents", "asked_cents")


@page("operator")
def reconciliation_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every movement of the span, one line each, in cents."""
    days = _days(request)
    return csv_response(
        request, name=f"kindling-reconciliation-{days}d.csv", rows=movement_rows(since=_since(days))
    )


@page("operator")
def reconciliation_day(request: HttpRequest, visitor: Visitor, day: str) -> HttpResponse:
    """One day, movement by movement."""
    try:
        compared = day_get(day=date.fromisoformat(day))
    except (ValueError, BillingError) as error:
        raise Http404(str(error)) from error
    order, cursor = ("happened_at", "id"), request.GET.get("cursor", "")
    movements = movement_list(day=compared.day)
    try:
        found = page_get(movements, order=order, cursor=cursor)
    except KindlingError:
        found = page_get(movements, order=order)
    context = {
        "day": compared,
        "movements": _explained(found.rows),
        "next": found.next_cursor,
        "organisations": organisation_map(organisation_ids=[row.owner_id for row in found.rows]),
    }
    return show(request, "console/operator_reconciliation_day.html", context)


@page("operator", methods=("POST",))
def difference_accept(request: HttpRequest, visitor: Visitor, movement_id: str) -> HttpResponse:
    """Accept a difference that is explained."""
    target = reverse("console:operator-reconciliation")
    sure_recently(request)
    try:
        difference_settle(movement_id=movement_id, note=request.POST.get("note", ""), actor=visitor.actor)
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "The difference is accepted.")


def _compare(request: HttpRequest) -> HttpResponse:
    try:
        treasury.books_reconcile()
    except KindlingError as error:
        return refused(request, request.get_full_path(), error)
    differing = difference_list().count()
    said = "Everything agrees." if not differing else f"{differing} movements differ."
    return done(request, request.get_full_path(), said)


def _days(request: HttpRequest) -> int:
    asked = request.GET.get("days", "")
    return next((days for days, _ in RANGES if str(days) == asked), 30)


def _since(days: int) -> date:
    return now().date() - timedelta(days=days - 1)


def _explained(rows: Any) -> list[tuple[Any, Any]]:
    return [(row, cause_get(row.cause)) for row in rows]
