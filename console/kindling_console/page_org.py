"""Which organisation a page shows: its forms and scripts say so, and are refused when another was chosen since.

Forms have a field beside the CSRF token, which the tag `csrf_token` of these templates writes, htmx and the other
scripts a header. A request with neither is taken as it is: it comes from a page of an earlier version, or from a
program.
"""

from collections.abc import Iterable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from kindling_console.ways_back import form_page
from kindling_platform.accounts.pages import ORGANISATION_HEADER, Changed, organisation_changed_find

FIELD = "kindling_org"


def page_org_changed(request: HttpRequest, *, org: Any, others: Iterable[Any]) -> Changed | None:
    """Whether the page that asks shows another organisation than the visitor's present one."""
    sent = request.POST.get(FIELD, "") if request.method == "POST" else ""
    shown = sent or request.headers.get(ORGANISATION_HEADER, "")
    return organisation_changed_find(shown=shown, org=org, others=others)


def page_org_refusal(request: HttpRequest, changed: Changed) -> HttpResponse:
    """409 with the way back; in a page it is a note at the top, and what was typed stays where it is."""
    context = {"changed": changed, "next": form_page(request)}
    if request.headers.get("HX-Request") != "true":
        return render(request, "console/organisation_changed.html", context, status=409)
    response = render(request, "console/parts/organisation_changed.html", context, status=409)
    response["HX-Retarget"] = "#stop"
    # Parts that ask again by themselves are told the same again, which must take the focus from nothing.
    response["HX-Reswap"] = "innerMorph show:top" if request.method == "POST" else "innerMorph"
    return response
