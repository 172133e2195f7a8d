"""What an organisation asks of everybody's sign-in: the switch, and the page for whoever has not got it."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, private, refused, show
from kindling_console.second_factor import WANTED, page_wanted
from kindling_console.sure import sure_recently
from kindling_platform.accounts.second_factors import mfa_required_set
from kindling_platform.common.errors import KindlingError

ON = "Everybody needs a second factor from now on. Whoever has none is led to adding one."
OFF = "A second factor is everybody's own choice again."


@page(without_factor=True)
def second_factor(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Why one is needed and both ways to add it; whoever has one goes on to where they wanted to be."""
    wanted = page_wanted(request)
    if not visitor.is_barred:
        request.session.pop(WANTED, None)
        return redirect(wanted)
    if request.session.get(WANTED) != wanted:
        request.session[WANTED] = wanted
    return private(show(request, "console/second_factor.html", {}))


@page("team.write", methods=("POST",))
def second_factor_required(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Ask one of every member, or no more."""
    sure_recently(request)
    back = f"{reverse('console:team')}#second-factor"
    required = request.POST.get("required") == "on"
    try:
        mfa_required_set(org=visitor.org, required=required, person_id=visitor.user.id, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, back, error)
    return done(request, back, ON if required else OFF)
