"""Members without the second factor that their organisation asks for: what they are told, and where they are led."""

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import urlencode

from kindling_console.answers import failure, is_fragment
from kindling_console.ways_back import local_path
from kindling_platform.accounts.second_factors import FACTOR_MISSING

# Where a session keeps which page they wanted.
WANTED = "second_factor_next"
TITLE = "Add a second factor first"
REFUSAL = (
    "Nothing was done. Your organisation asks a second factor of everybody since, and you have none: open the console, "
    "which leads you to adding one, then do this once more."
)


def factor_first(request: HttpRequest) -> HttpResponseBase:
    """Lead to the page that says how to add one, and refuse what would change something."""
    if request.method not in {"GET", "HEAD"}:
        return failure(request, 403, TITLE, REFUSAL, FACTOR_MISSING)
    part = is_fragment(request)
    here = local_path(request.headers.get("HX-Current-URL", "")) if part else request.get_full_path()
    there = f"{reverse('console:second-factor')}?{urlencode({'next': here})}"
    if not part:
        return redirect(there)
    response = HttpResponse(status=204)
    response["HX-Redirect"] = there
    return response


def page_wanted(request: HttpRequest) -> str:
    """The page that somebody was led away from, as the address or the session says; the console's first, else."""
    asked = local_path(request.GET.get("next", ""))
    if asked.startswith(reverse("console:second-factor")):
        asked = ""
    kept: str = request.session.get(WANTED, "")
    return asked or kept or reverse("console:home")
