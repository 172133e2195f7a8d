"""Where a form is, for those whose form was not taken, and what an address says to a method that it does not know."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import Resolver404, ResolverMatch, resolve, reverse
from django.utils.http import url_has_allowed_host_and_scheme

from kindling_console.answers import failure

IS_PAGE = "kindling_is_page"
View = TypeVar("View", bound=Callable[..., Any])


def shows_page(view: View) -> View:
    """Mark a view whose address may be opened; `access.page` does so for those that it guards."""
    setattr(view, IS_PAGE, True)
    return view


def form_page(request: HttpRequest) -> str:
    """The page from which a form was sent, or the one that its address belongs to; a path on this host."""
    referer = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(
        referer, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return (is_ours and local_path(referer)) or page_behind(request)


def local_path(url: str) -> str:
    """The path and query of an address; empty when it has none, or when a browser would take it for another host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return path if path.startswith("/") and url_has_allowed_host_and_scheme(path, allowed_hosts=None) else ""


def page_behind(request: HttpRequest) -> str:
    """This address if it shows a page, else the nearest above it that shows one of the same object or of none."""
    here = _match(request.path)
    if here is None or _is_page(here):
        return request.get_full_path()
    path = request.path
    while path.count("/") > 1:
        path = path.rstrip("/").rpartition("/")[0] + "/"
        match = _match(path)
        if match and _is_page(match) and match.kwargs.items() <= here.kwargs.items():
            return path
    return reverse("console:home")


def method_refused(request: HttpRequest, allowed: Iterable[str]) -> HttpResponse:
    """Lead whoever opens a form's address to the page behind it; any other method is told that it is not taken."""
    if request.method in {"GET", "HEAD"}:
        return redirect(page_behind(request))
    response = failure(
        request, 405, "This address does not take that", "Go to the console and use the page's own buttons."
    )
    response["Allow"] = ", ".join(sorted(allowed))
    return response


def _match(path: str) -> ResolverMatch | None:
    try:
        return resolve(path)
    except Resolver404:
        return None


def _is_page(match: ResolverMatch) -> bool:
    return bool(getattr(match.func, IS_PAGE, False))
