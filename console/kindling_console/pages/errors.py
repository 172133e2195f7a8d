"""What is shown when there is nothing else to show: 403, 404, 500."""

from django.http import HttpRequest, HttpResponse

from kindling_console.access import Suspended
from kindling_console.answers import failure
from kindling_console.second_factor import REFUSAL, TITLE
from kindling_platform.accounts.second_factors import FACTOR_MISSING
from kindling_platform.common.ids import new_id


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """The visitor's role does not allow this, or their organisation is suspended."""
    if isinstance(exception, Suspended):
        return failure(
            request, 403, "Your organisation is suspended",
            "You may look at everything and change nothing. Ask the operator why and what ends it.",
        )  # fmt: skip
    if str(exception) == FACTOR_MISSING:
        return failure(request, 403, TITLE, REFUSAL, FACTOR_MISSING)
    return failure(
        request, 403, "Your role does not allow this",
        "Ask an owner or admin of your organisation to do it, or to change your role.",
    )  # fmt: skip


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Nothing here, or nothing of this visitor's."""
    return failure(
        request, 404, "There is nothing here",
        "The address is wrong, the object was deleted, or it belongs to another organisation.",
    )  # fmt: skip


def server_error(request: HttpRequest) -> HttpResponse:
    """Our failure; the reference is in the log beside the traceback's request."""
    return failure(
        request, 500, "This failed on our side",
        "Nothing was charged for it. Try again; if it fails again, give the operator the reference.",
        reference=new_id("err"),
    )  # fmt: skip


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The form was too old or came from another site."""
    return failure(
        request, 403, "This form is too old",
        "You signed in or out since it was opened. Go back, reload the page and send it once more.",
    )  # fmt: skip
