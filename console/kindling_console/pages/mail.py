"""The operator's view of letters that were not sent but kept."""

from django.http import Http404, HttpRequest, HttpResponse

from kindling_console.access import Visitor, page
from kindling_console.answers import private, show
from kindling_console.outbox import letter_find, letter_list, outbox_folder


@page("operator")
def outbox(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The list."""
    context = {"letters": letter_list(), "is_kept": outbox_folder() is not None}
    return private(show(request, "console/operator_mail.html", context))


@page("operator")
def letter(request: HttpRequest, visitor: Visitor, letter_id: str) -> HttpResponse:
    """One letter, for instance with the link that resets a password."""
    found = letter_find(letter_id=letter_id)
    if found is None:
        raise Http404("There is no such letter.")
    return private(show(request, "console/operator_letter.html", {"letter": found}))
