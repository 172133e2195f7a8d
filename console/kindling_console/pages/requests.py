"""Single requests: who, what, how much; never what was said."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.http.response import HttpResponseBase

from kindling_billing.rating import BATCH, CACHED, OUTPUT, PROMPT, REASONING
from kindling_billing.selectors import price_map, price_of
from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.usage_view import FILTERS
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.usage.exports import file_name, request_rows
from kindling_platform.usage.names import OUTCOMES, name_map
from kindling_platform.usage.questions import question_of
from kindling_platform.usage.rating import event_lines
from kindling_platform.usage.selectors import usage_event_get, usage_event_list

ORDER = ("finished_at", "request_id")
SPAN = ("from", "to", "tz")
PARTS = {PROMPT: "Prompt", CACHED: "Prompt, cached", REASONING: "Reasoning", OUTPUT: "Answer"}


@page("usage.read")
def requests(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Newest first; without a span in the address, back to the first one."""
    asked = {name: request.GET[name] for name in (*FILTERS, *SPAN) if request.GET.get(name)}
    error, question = "", question_of(visitor.org, {})
    try:
        question = question_of(visitor.org, asked, exact=True)
    except KindlingError as refused:
        asked, error = {}, refused.message
    spanned = "from" in asked or "to" in asked
    rows = usage_event_list(
        org=visitor.org, only=question.only,
        start=question.start if spanned else None, end=question.end if spanned else None,
    )  # fmt: skip
    try:
        found = page_get(rows, order=ORDER, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(rows, order=ORDER)
    context = {
        "events": found.rows, "next": found.next_cursor, "error": error, "filtered": bool(asked),
        "asked": asked, "status": asked.get("status", ""), "outcomes": OUTCOMES.items(),
        "words": _words(visitor, asked),
        "span": [moment.astimezone(question.zone) for moment in (question.start, question.end)] if spanned else None,
        "zone": question.zone.key,
    }  # fmt: skip
    return show(request, "console/requests.html", context, status=400 if error else 200)


@page("usage.read")
def requests_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every request of a span, written while it is read."""
    try:
        question = question_of(visitor.org, request.GET.dict(), exact=True)
    except KindlingError as refused:
        return HttpResponseBadRequest(refused.message, content_type="text/plain; charset=utf-8")
    name = file_name(visitor.org, "requests", question)
    return csv_response(request, name=name, rows=request_rows(question))


@page("usage.read")
def request_page(request: HttpRequest, visitor: Visitor, request_id: str) -> HttpResponse:
    """One request: its tokens, its times, and how its cost comes about."""
    event = usage_event_get(org=visitor.org, request_id=request_id)
    price = price_map(price_ids=[event.price_version_id]).get(event.price_version_id)
    context = {"event": event, "price": price, "parts": _cost_parts(event, price)}
    return show(request, "console/request.html", context)


def _words(visitor: Visitor, asked: dict[str, str]) -> list[str]:
    """What the list is filtered by, as people call it."""
    words = []
    for name in FILTERS:
        if name not in asked or name == "status":
            continue
        names = name_map(org=visitor.org, by=name) if name == "key" else {}
        texts = {names.get(text, text) for text in asked[name].split(",")}
        words.append(f"{name} {', '.join(sorted(texts))}")
    return words


def _part_name(unit: str) -> str:
    plain = unit.removeprefix(BATCH)
    return PARTS.get(plain, plain) + (" in a batch" if plain != unit else "")


def _cost_parts(event: Any, price: Any) -> list[tuple[str, int, int, int]]:
    if price is None:
        return []
    return [
        (_part_name(line.unit), line.quantity, line.unit_price_picousd, line.amount_picousd)
        for line in event_lines(event, price_of(price))
    ]
