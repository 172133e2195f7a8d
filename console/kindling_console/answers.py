"""How a page answers: a full page, a fragment, a redirect after a post, a refused form."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from kindling_platform.common.errors import KindlingError


def is_fragment(request: HttpRequest) -> bool:
    """Whether htmx asks for a part of a page, not for history's sake."""
    return (
        request.headers.get("HX-Request") == "true"
        and request.headers.get("HX-History-Restore-Request") != "true"
    )


def show(
    request: HttpRequest, template: str, context: dict[str, Any], *, part: str = "", status: int = 200
) -> HttpResponse:
    """Render a page, or only its `part` for htmx; either way the answer depends on that header."""
    chosen = part if part and is_fragment(request) else template
    response = render(request, chosen, context, status=status)
    response["Vary"] = "HX-Request"
    return response


def done(request: HttpRequest, url: str, message: str = "") -> HttpResponse:
    """Go on after a post, with a sentence to show there."""
    if message:
        messages.success(request, message)
    if is_fragment(request):
        response = HttpResponse(status=204)
        response["HX-Redirect"] = url
        return response
    redirect = HttpResponseRedirect(url)
    redirect.status_code = 303
    return redirect


def refused(request: HttpRequest, url: str, error: KindlingError) -> HttpResponse:
    """Go back after an action that was refused, with the reason."""
    messages.error(request, error.message)
    return done(request, url)


def failure(request: HttpRequest, status: int, title: str, message: str, reference: str = "") -> HttpResponse:
    """What is shown when there is nothing else to show: a page of its own, or a note in the place of a fragment."""
    fragment = request.headers.get("HX-Request") == "true"
    template = "console/parts/error.html" if fragment else "console/error.html"
    context = {"status": status, "title": title, "message": message, "reference": reference}
    return render(request, template, context, status=status)


def private(response: HttpResponse) -> HttpResponse:
    """Keep an answer out of every cache and of the browser's history."""
    response["Cache-Control"] = "no-store"
    response["Pragma"] = "no-cache"
    return response
