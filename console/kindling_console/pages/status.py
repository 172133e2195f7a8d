"""Whether the platform answers, for everybody; nobody has to sign in, and nothing on it belongs to an organisation.

It takes nothing from the request, no session and no cookie, so that any cache may keep it for some seconds, as this
process does itself, and so that it says something honest while the database is away.
"""

from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from kindling_console.status_feed import notices_feed, page_url, status_json
from kindling_console.status_strip import KEY, strip_of
from kindling_platform.status.fresh import status_fresh
from kindling_platform.status.selectors import DAYS, Status, updates_of

FRESH_S, AGAIN_S = 10, 10
AWAY = (
    "The database of this platform does not answer, so nobody can say here how the rest is."
    " Requests to the API may still be answered."
)
HEADLINES = {
    "up": "Everything answers",
    "limited": "Something is limited",
    "starting": "Something is starting",
    "down": "Something is down",
    "unknown": "Nobody has looked at it yet",
}


@require_safe
def status(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _answer(request, _page, _page_away)


@require_safe
def status_as_json(request: HttpRequest) -> HttpResponse:
    """The same for programs; pages of any origin may read it."""
    return _answer(request, lambda now: JsonResponse(status_json(now)), _json_away)


@require_safe
def status_as_feed(request: HttpRequest) -> HttpResponse:
    """The notices, for readers of feeds."""

    def feed(now: Status) -> HttpResponse:
        return HttpResponse(notices_feed(now), content_type="application/atom+xml; charset=utf-8")

    return _answer(request, feed, lambda: HttpResponse(AWAY, content_type="text/plain; charset=utf-8"))


def _answer(
    request: HttpRequest, made: Callable[[Status], HttpResponse], away: Callable[[], HttpResponse]
) -> HttpResponse:
    try:
        response = made(status_fresh())
        response["Cache-Control"] = f"public, max-age={FRESH_S}"
    except (OperationalError, InterfaceError):
        response = away()
        response.status_code = 503
        response["Retry-After"] = str(AGAIN_S)
        response["Cache-Control"] = "no-store"
    response["Access-Control-Allow-Origin"] = "*"
    return response


def _page(now: Status) -> HttpResponse:
    def shown(notices: list[object]) -> list[tuple[object, list[object]]]:
        return [(one, updates_of(one)) for one in notices]  # type: ignore[arg-type]

    context = {
        "status": now,
        "headline": HEADLINES[now.state],
        "components": [(one, strip_of(one)) for one in now.components],
        "days": DAYS,
        "key": KEY,
        "active": shown([*now.active]),
        "upcoming": shown([*now.upcoming]),
        "past": shown([*now.past]),
        "url": page_url(),
    }
    return HttpResponse(render_to_string("console/status.html", context))


def _page_away() -> HttpResponse:
    return HttpResponse(render_to_string("console/status_away.html", {"message": AWAY}))


def _json_away() -> HttpResponse:
    return JsonResponse({"status": "unknown", "message": AWAY})
