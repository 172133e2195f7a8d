"""Addresses that programs ask any site for: browsers for a picture, password managers and crawlers."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.templatetags.static import static
from django.views.decorators.http import require_safe

# What stands on public pages may be found by searching; all else is behind a sign-in.
ROBOTS = "User-agent: *\nAllow: /docs\nAllow: /errors/\nAllow: /status\nDisallow: /\n"


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Where the picture of a tab is, for who does not read the page's own link to it."""
    return redirect(static("console/mark.svg"))


@require_safe
def robots(request: HttpRequest) -> HttpResponse:
    """What crawlers may read."""
    return HttpResponse(ROBOTS, content_type="text/plain; charset=utf-8")


@require_safe
def change_password(request: HttpRequest) -> HttpResponse:
    """Where a password is changed, by https://www.w3.org/TR/change-password-url/."""
    return redirect("account_change_password")
