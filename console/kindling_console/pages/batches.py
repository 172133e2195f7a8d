"""Batches: how far they are, what they wait for, what came of them."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.quickstart import base_url
from kindling_platform.batches.selectors import batch_get, batch_list, file_map
from kindling_platform.batches.services import batch_cancel, batch_file_open
from kindling_platform.common.error_index.entries import error_entries
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.keys.selectors import key_name_map

ORDER = ("created_at", "id")
MOVING = ("validating", "in_progress", "finalizing", "cancelling")
CANCELLABLE = ("validating", "in_progress")
LINE = {
    "custom_id": "1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello!"}]},
}


@page("usage.read")
def batches(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Newest first, alive while one of them moves."""
    rows = batch_list(org=visitor.org)
    try:
        found = page_get(rows, order=ORDER, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(rows, order=ORDER)
    context = {
        "batches": found.rows,
        "next": found.next_cursor,
        "moving": any(batch.status in MOVING for batch in found.rows),
        "base_url": base_url(),
        "may_write": visitor.may("batches.write"),
        "line": json.dumps(LINE),
    }
    return show(request, "console/batches.html", context, part="console/parts/batch_rows.html")


@page("usage.read")
def batch_page(request: HttpRequest, visitor: Visitor, batch_id: str) -> HttpResponse:
    """One batch; its live part is asked for by itself."""
    batch = batch_get(org=visitor.org, batch_id=batch_id)
    files = file_map(
        org=visitor.org, ids={batch.input_file_id, batch.output_file_id, batch.error_file_id} - {""}
    )
    named = (
        ("Answers", batch.output_file_id),
        ("Errors", batch.error_file_id),
        ("Input", batch.input_file_id),
    )
    entry = error_entries().get(batch.waits_for)
    context = {
        "batch": batch,
        "moving": batch.status in MOVING,
        "may_cancel": batch.status in CANCELLABLE and visitor.may("batches.write"),
        "reasons": _reasons(batch.errors or []),
        "key_name": key_name_map(org=visitor.org).get(batch.key_id, batch.key_id),
        "files": [(label, files[file_id]) for label, file_id in named if file_id in files],
        "may_open": visitor.may("prompts.open"),
        "waits": entry,
        "made": batch.completed + batch.failed,
    }
    return show(request, "console/batch.html", context, part="console/parts/batch_live.html")


def _reasons(errors: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Why lines were refused, each reason once, with the lines that it holds for."""
    lines: dict[tuple[str, str], list[int]] = {}
    for error in errors:
        found = lines.setdefault((error["code"], error["message"]), [])
        if error["line"]:
            found.append(error["line"])
    return [
        {"code": code, "message": message, "lines": spans_text(numbers)}
        for (code, message), numbers in lines.items()
    ]


def spans_text(numbers: list[int]) -> str:
    """Ascending numbers as text, neighbours as one: 1–3, 7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in spans)


@page("batches.write", methods=("GET", "POST"))
def batch_cancel_page(request: HttpRequest, visitor: Visitor, batch_id: str) -> HttpResponse:
    """Asks whether it is meant, and cancels."""
    batch = batch_get(org=visitor.org, batch_id=batch_id)
    target = reverse("console:batch", args=[batch.id])
    if batch.status not in CANCELLABLE:
        return redirect(target)
    if request.method != "POST":
        return show(request, "console/batch_cancel.html", {"batch": batch})
    try:
        batch_cancel(org=visitor.org, batch_id=batch.id, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "The batch ends when the requests that run have ended.")


@page("prompts.open")
def batch_file(request: HttpRequest, visitor: Visitor, file_id: str) -> HttpResponseBase:
    """A file of a batch, to download; the audit log says who did."""
    file, text = batch_file_open(org=visitor.org, file_id=file_id, actor=visitor.actor)
    response = StreamingHttpResponse(text, content_type="application/jsonl")
    response["Content-Disposition"] = f'attachment; filename="{file.id}.jsonl"'
    response["Content-Length"] = str(file.size_bytes)
    response["Cache-Control"] = "no-store"
    return response
