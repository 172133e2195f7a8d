"""A form that was refused before it was read shows its page again, and says there why."""

from django.contrib import messages
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from kindling_console.access import NOT_TAKEN
from kindling_console.answers import done, is_fragment
from kindling_console.ways_back import local_path
from kindling_platform.config.body_refusal import Refusal, refusal_of


class RefusedBodies(MiddlewareMixin):
    """Answers a form whose body was too large, or too slow, with the page of the form, which is asked for in its place.

    The refusal reaches Django in the scope, where nobody outside can put one.
    """

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        refusal = _refusal(request)
        if refusal is None:
            return None
        is_lost = request.path.startswith("/console/") and not request.user.is_authenticated
        text = NOT_TAKEN if is_lost else refusal.page_text
        here = local_path(request.headers.get("HX-Current-URL", ""))
        if is_fragment(request) and here:
            messages.error(request, text)
            return done(request, here)
        messages.error(request, text)
        return None

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        refusal = _refusal(request)
        if refusal is not None:
            if response.status_code == 200:
                response.status_code = refusal.status
            response["Connection"] = "close"
        return response


def _refusal(request: HttpRequest) -> Refusal | None:
    return refusal_of(getattr(request, "scope", {}))
