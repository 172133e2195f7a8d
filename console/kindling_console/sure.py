"""Pages and forms for which somebody confirms anew that it is them, with their password or a second factor."""

from typing import TypeVar, cast

from allauth.account.decorators import reauthentication_required
from allauth.core.exceptions import ReauthenticationRequired
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from kindling_console.answers import is_fragment
from kindling_platform.accounts.reauthentication import confirm_first, is_recent

View = TypeVar("View")


def sure(view: View) -> View:
    """Ask before the page is shown, and before its form is taken: what was sent is taken once that is done.

    It stands below `access.page`, which leads whoever is not signed in to signing in first.
    """
    return cast(View, reauthentication_required(view))


def sure_recently(request: HttpRequest) -> None:
    """Ask whoever has neither signed in nor confirmed within the last minutes; for keys, money and members.

    For use before anything is changed, below `access.page`, which leads them to confirming and takes the form after.

    Raises:
        ReauthenticationRequired: they have not.
    """
    if not is_recent(request):
        raise ReauthenticationRequired


def sure_with_others(request: HttpRequest, *, own_id: str, owner_id: str) -> None:
    """As `sure_recently` of whoever is at work on what belongs to another organisation than their own.

    Raises:
        ReauthenticationRequired: they have not.
    """
    if owner_id != own_id:
        sure_recently(request)


def sure_first(request: HttpRequest) -> HttpResponseBase:
    """Lead to the page that asks; a fragment makes the whole page go there."""
    part = is_fragment(request)
    there = confirm_first(request)
    if not part:
        return there
    response = HttpResponse(status=204)
    response["HX-Redirect"] = there["Location"]
    return response
