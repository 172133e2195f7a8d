"""The visitor's own account, and the theme."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.context import THEMES
from kindling_console.forms.account import NameForm
from kindling_console.ways_back import method_refused
from kindling_platform.accounts.services import user_rename, user_shortcuts_set

A_YEAR_S = 365 * 24 * 3600


@page(methods=("GET", "POST"), of_any_org=True)
def account(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Name, keyboard, sign-in and where second factors are set up."""
    if request.POST.get("do") == "shortcuts":
        # An unchecked box sends nothing.
        enabled = "shortcuts" in request.POST
        user_shortcuts_set(user=visitor.user, enabled=enabled, actor=visitor.actor)
        text = f"Single-key shortcuts are {'on' if enabled else 'off'}."
        return done(request, reverse("console:account"), text)
    form = NameForm(request.POST or None, initial={"name": visitor.user.name})
    if request.method == "POST" and form.is_valid():
        user_rename(user=visitor.user, name=form.cleaned_data["name"], actor=visitor.actor)
        return done(request, reverse("console:account"), "Your name is saved.")
    status = 422 if form.is_bound else 200
    return show(request, "console/account.html", {"form": form}, status=status)


def theme(request: HttpRequest) -> HttpResponse:
    """Remember light, dark, or the system's choice; open to everybody, for it is only a cookie."""
    if request.method != "POST":
        return method_refused(request, {"POST"})
    target = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(target, allowed_hosts={request.get_host()}):
        target = reverse("console:home")
    response = redirect(target)
    response.status_code = 303
    chosen = request.POST.get("theme", "")
    if chosen in THEMES:
        response.set_cookie("theme", chosen, max_age=A_YEAR_S, samesite="Lax", secure=request.is_secure())
    else:
        response.delete_cookie("theme", samesite="Lax")
    return response
