"""While one of the operator's people sees the console as somebody else, nothing is changed."""

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.deprecation import MiddlewareMixin

from kindling_console.answers import failure
from kindling_platform.accounts.actor import user_actor
from kindling_platform.accounts.seeing import SEEING, only_looking, seeing_end, seeing_find
from kindling_platform.api.errors import error_body
from kindling_platform.common.requests import client_ip

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
# Pages of one's own account and of the administration: they go by who is signed in, not by who is looked through.
OWN = ("/accounts/", "/admin/", "/console/account/", "/console/join/")
TITLE = "You only look"
CHANGES = "You see the console as somebody else, so nothing can be changed. End it first, with the button at the top."
# Where a link leads to another site, on which that person's cards and addresses can be changed.
LEAVING = ("billing-portal",)
ELSEWHERE = (
    "You see the console as somebody else. This leads to their pages at the payment provider: end it first."
)
PRIVATE = "You see the console as somebody else. This page is that person's own, or yours: end it first."


class SeeingGuard(MiddlewareMixin):
    """Refuses what changes something, and pages of one's own, to a session that sees the console as somebody else.

    It stands before every view, so that no page, address of the API or form of the sign-in can forget it.
    """

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:
        is_own = request.path.startswith(OWN)
        leaves = request.path in [reverse(f"console:{name}") for name in LEAVING]
        if (request.method in SAFE and not is_own and not leaves) or not request.COOKIES.get(
            settings.SESSION_COOKIE_NAME
        ):
            return None
        if not request.session.get(SEEING) or not request.user.is_authenticated:
            return None
        seen = seeing_find(session=request.session, user_id=request.user.pk)
        if seen is None:
            return None
        if request.method == "POST" and request.path == reverse("account_logout"):
            actor = user_actor(seen.row.operator, ip=client_ip(request))
            seeing_end(seeing_id=seen.row.id, actor=actor)
            return None
        if request.method == "POST" and request.path == reverse("console:seeing-end"):
            return None
        looks = request.method in SAFE
        return _refusal(request, ELSEWHERE if leaves and looks else PRIVATE if is_own and looks else CHANGES)


def _refusal(request: HttpRequest, text: str) -> HttpResponseBase | None:
    if not request.path.startswith("/api/"):
        response = failure(request, 403, TITLE, text)
        # A note at the top of the page, and what was typed stays where it is.
        response["HX-Retarget"], response["HX-Reswap"] = "#stop", "innerMorph show:top"
        return response
    if request.headers.get("Authorization", "").lower().startswith("bearer "):
        # A key speaks for itself; the session beside it is not looked at.
        return None
    return JsonResponse(error_body(only_looking(text)), status=403)
