"""Search by name over everything that the visitor may open: the palette's answers, and a page of its own."""

from django.http import HttpRequest, HttpResponse

from kindling_console.access import Visitor, page
from kindling_console.answers import private, show
from kindling_console.searching import hit_groups, searched_kinds
from kindling_platform.common.matching import words_of

MAX_CHARS = 80


@page()
def search(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What is called like `q`; the palette is given the list alone."""
    query = " ".join(words_of(request.GET.get("q", "")[:MAX_CHARS]))
    groups = hit_groups(visitor, query)
    context = {
        "query": query,
        "groups": groups,
        "total": sum(len(group.hits) for group in groups),
        "kinds": searched_kinds(visitor),
    }
    return private(show(request, "console/search.html", context, part="console/parts/palette_results.html"))
