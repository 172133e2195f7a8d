"""Requests of which prompt and answer were kept: a list, and one of them opened."""

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse

from kindling_console.access import Visitor, page
from kindling_console.answers import private, show
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import request_id_read
from kindling_platform.common.pagination import page_get
from kindling_platform.requestlog.reading import answer_turns, prompt_turns
from kindling_platform.requestlog.selectors import logged_request_get, logged_request_list, request_log_days
from kindling_platform.requestlog.services import logged_request_open

ORDER = ("created_at", "request_id")


@page("prompts.open")
def request_log(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Kept requests, newest first."""
    rows = logged_request_list(org=visitor.org)
    try:
        found = page_get(rows, order=ORDER, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(rows, order=ORDER)
    context = {
        "entries": found.rows,
        "next": found.next_cursor,
        "days": request_log_days(org=visitor.org),
        "may_write": visitor.may("settings.write"),
    }
    return show(request, "console/request_log.html", context)


@page("prompts.open")
def logged_request(request: HttpRequest, visitor: Visitor, request_id: str) -> HttpResponse:
    """What one request and its answer said; that somebody has looked is in the audit log."""
    number = _number(request_id)
    entry = logged_request_get(org=visitor.org, request_id=number)
    context: dict[str, Any] = {"entry": entry, "prompt": [], "answer": [], "error": ""}
    try:
        said = logged_request_open(org=visitor.org, request_id=number, actor=visitor.actor)
    except KindlingError as error:
        if error.status == 404:
            raise
        context["error"] = error.message
    else:
        context |= {
            "said": said,
            "prompt": prompt_turns(said.prompt),
            "answer": answer_turns(said.answer, said.answer_type),
            "raw_prompt": said.prompt.decode("utf-8", "replace"),
            "raw_answer": said.answer.decode("utf-8", "replace"),
        }
    return private(show(request, "console/logged_request.html", context))


def _number(request_id: str) -> UUID:
    number = request_id_read(request_id)
    if number is None:
        raise Http404
    return number
