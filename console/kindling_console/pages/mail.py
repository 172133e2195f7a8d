"""The operator's outbox: letters that wait, were refused or sent, and those that are kept for want of a mail server."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, private, refused, show
from kindling_console.sure import sure_recently
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.kept_mail import kept_folder
from kindling_platform.records.letters import STATES, letter_get, letter_list, letter_retry


@page("operator")
def outbox(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The newest letters, of one state or of all."""
    state = request.GET.get("state", "")
    context = {
        "state": state if state in STATES else "",
        "states": STATES,
        "letters": letter_list(state=state if state in STATES else ""),
        "is_kept": kept_folder() is not None,
    }
    return private(show(request, "console/operator_mail.html", context))


@page("operator")
def letter(request: HttpRequest, visitor: Visitor, letter_id: str) -> HttpResponse:
    """One letter, for instance with the link that resets a password: whoever reads it may become somebody else."""
    sure_recently(request)
    context = {"letter": letter_get(letter_id=letter_id)}
    return private(show(request, "console/operator_letter.html", context))


@page("operator", methods=("POST",))
def retry(request: HttpRequest, visitor: Visitor, letter_id: str) -> HttpResponse:
    """Have a letter sent that was refused, or that waits."""
    target = reverse("console:operator-mail")
    try:
        found = letter_retry(letter_id=letter_id, actor=visitor.actor)
    except KindlingError as error:
        if error.status == 404:
            raise
        return refused(request, target, error)
    return done(request, target, f"“{found.subject}” is sent again within a minute.")
