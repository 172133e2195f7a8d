"""Who is in the organisation, as what, and what their keys have spent."""

from django.http import HttpRequest, HttpResponse

from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.meters import meters_of, rates_of
from kindling_platform.common.clock import now
from kindling_platform.usage.bounds import bounds_get

SHOWN = 500


@page("team.read")
def team(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Everybody, oldest first."""
    members = bounds_get(org=visitor.org, moment=now()).members
    rows = [
        (bound.membership, meters_of(bound.limits, bound.spent)[1], rates_of(bound.limits))
        for bound in members[:SHOWN]
    ]
    context = {"rows": rows, "more": len(members[SHOWN:]), "may_write": visitor.may("team.write")}
    return show(request, "console/team.html", context)
