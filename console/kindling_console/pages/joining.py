"""Accepting an invitation, and changing between the organisations that somebody is in."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from kindling_console.access import Visitor, page, sign_in_first
from kindling_console.answers import done, private, show
from kindling_console.ways_back import local_path, shows_page
from kindling_platform.accounts.invitations import invitation_accept, invitation_find
from kindling_platform.accounts.selectors import CHOSEN_ORGANISATION, user_list_known_by
from kindling_platform.common.errors import KindlingError


@shows_page
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, text: str) -> HttpResponseBase:
    """What somebody is invited to, and a button; whoever is not signed in can do that or sign up first."""
    try:
        found = invitation_find(text=text)
        if request.method == "POST":
            return _accept(request, text)
    except KindlingError as error:
        if error.status == 404:
            raise Http404(error.message) from error
        return private(show(request, "console/join.html", {"refusal": error.message}, status=error.status))
    known = user_list_known_by(email=found.email)
    context = {
        "invitation": found,
        "is_theirs": request.user.is_authenticated and known.filter(id=request.user.id).exists(),
        "here": request.get_full_path(),
    }
    return private(show(request, "console/join.html", context))


@page(methods=("POST",), of_any_org=True)
def organisation_change(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Work in another organisation from now on, in this browser; on the page `next`, if the form names one."""
    wanted = request.POST.get("organisation", "")
    # The present one is among them: another tab may have changed to it already.
    found = next((org for org in (*visitor.others, visitor.org) if org.id == wanted), None)
    if found is None:
        raise Http404("There is no such organisation.")
    request.session[CHOSEN_ORGANISATION] = found.id
    return done(request, local_path(request.POST.get("next", "")) or reverse("console:home"))


def _accept(request: HttpRequest, text: str) -> HttpResponseBase:
    if not request.user.is_authenticated:
        return sign_in_first(request)
    member = invitation_accept(text=text, user=request.user)
    request.session[CHOSEN_ORGANISATION] = member.organisation_id
    messages.success(request, f"You work in {member.organisation.name} now, as {member.role}.")
    return done(request, reverse("console:home"))
