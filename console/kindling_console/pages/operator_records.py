"""Records that wait for a person: why each is here, what to do, and the buttons that do it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_billing.payment_selectors import call_list_open, call_list_undecided, event_find_parked
from kindling_billing.returns import failed_refund_list
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.remedies import remedy_of
from kindling_platform.accounts import decisions, treasury
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.pagination import page_get
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.parked_hours import parked_hour_dismiss, parked_hour_list
from kindling_platform.usage.parked import parked_dismiss, parked_release
from kindling_platform.usage.selectors import parked_list
from kindling_platform.usage.witnesses import drift_list

SHOWN = 100
BLOCK = 500
# (key, label, what makes the rows, the columns that order them, the columns of the CSV)
KINDS: dict[str, tuple[str, Callable[[], Any], tuple[str, str], tuple[str, ...]]] = {
    "usage": (
        "Usage that could not be billed", parked_list, ("created_at", "request_id"),
        ("created_at", "request_id", "source", "reason"),
    ),
    "gpu": (
        "GPU time without a price", parked_hour_list, ("created_at", "id"),
        ("created_at", "id", "organisation_id", "deployment_id", "model_id", "hour", "held_ms", "reason"),
    ),
    "refunds": (
        "Refunds that came back", failed_refund_list, ("heard_at", "id"),
        ("heard_at", "id", "payment_id", "amount_cents", "reason"),
    ),
    "events": (
        "Events the books could not take", event_find_parked, ("heard_at", "id"),
        ("heard_at", "id", "type", "reason"),
    ),
    "requests": (
        "Requests that need a decision", call_list_undecided, ("created_at", "id"),
        ("created_at", "id", "kind", "owner_id", "subject", "state", "attempts", "trouble_code", "trouble"),
    ),
    "witnesses": (
        "Counts that differ", drift_list, ("found_at", "request_id"),
        ("found_at", "request_id", "organisation_id", "kind", "booked", "logged"),
    ),
}  # fmt: skip


@page("operator")
def records(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """One kind of record, with the number of each; the kind is in the URL."""
    kind = _kind(request)
    _, find, order, _ = KINDS[kind]
    try:
        found = page_get(find(), order=order, cursor=request.GET.get("cursor", ""), limit=SHOWN)
    except KindlingError:
        found = page_get(find(), order=order, limit=SHOWN)
    owners = [getattr(row, "owner_id", "") or getattr(row, "organisation_id", "") for row in found.rows]
    if kind == "refunds":
        owners = [row.payment.owner_id for row in found.rows]
    context = {
        "kind": kind,
        "kinds": [(key, label, rows().count()) for key, (label, rows, _, _) in KINDS.items()],
        "rows": [(row, owner, remedy_of(kind, row)) for row, owner in zip(found.rows, owners, strict=True)],
        "next": found.next_cursor,
        "organisations": organisation_map(organisation_ids=owners),
        "waiting": call_list_open() if kind == "requests" else [],
    }
    return show(request, "console/operator_records.html", context)


@page("operator")
def records_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every record of a kind."""
    kind = _kind(request)
    return csv_response(request, name=f"kindling-records-{kind}.csv", rows=_csv_rows(kind))


@page("operator", methods=("POST",))
def record_action(
    request: HttpRequest, visitor: Visitor, kind: str, record_id: str, action: str
) -> HttpResponse:
    """Do what a button says; a refusal is shown on the page that it came from."""
    act = ACTIONS.get((kind, action))
    if act is None:
        raise Http404(action)
    target = f"{reverse('console:operator-records')}?kind={kind}"
    try:
        said = act(record_id, request.POST.get("note", ""), visitor)
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, said)


def _release(record_id: str, _note: str, visitor: Visitor) -> str:
    parked_release(request_id=_uuid(record_id), actor=visitor.actor)
    return "It is billed."


def _dismiss(record_id: str, note: str, visitor: Visitor) -> str:
    parked_dismiss(request_id=_uuid(record_id), note=note, actor=visitor.actor)
    return "Nobody is billed for it. The audit log keeps the record."


def _gpu_dismiss(record_id: str, note: str, visitor: Visitor) -> str:
    if not (record_id.isascii() and record_id.isdigit() and len(record_id) < 19):
        raise not_found("parked GPU hour")
    parked_hour_dismiss(hour_id=int(record_id), note=note, actor=visitor.actor)
    return "Nobody is billed for this hour."


def _refund_credit(record_id: str, _note: str, visitor: Visitor) -> str:
    decisions.failed_refund_credit(refund_id=record_id, actor=visitor.actor)
    return "The customer has the money as credit."


def _refund_paid(record_id: str, note: str, visitor: Visitor) -> str:
    decisions.failed_refund_pay(refund_id=record_id, note=note, actor=visitor.actor)
    return "It is noted as paid."


def _event_retry(record_id: str, _note: str, visitor: Visitor) -> str:
    receipt = treasury.event_try_again(event_id=record_id, actor=visitor.actor)
    if receipt.state != "applied":
        raise KindlingError("event_still_refused", "The books still cannot take it; see the reason.", 409)
    return "It is booked."


def _event_close(record_id: str, note: str, visitor: Visitor) -> str:
    decisions.event_put_aside(event_id=record_id, note=note, actor=visitor.actor)
    return "The event is closed."


def _request_retry(record_id: str, _note: str, visitor: Visitor) -> str:
    decisions.request_try_again(call_id=record_id, actor=visitor.actor)
    return "It is tried again now."


def _request_close(record_id: str, note: str, visitor: Visitor) -> str:
    decisions.request_put_aside(call_id=record_id, note=note, actor=visitor.actor)
    return "The request is closed."


ACTIONS: dict[tuple[str, str], Callable[[str, str, Visitor], str]] = {
    ("usage", "release"): _release,
    ("usage", "dismiss"): _dismiss,
    ("gpu", "dismiss"): _gpu_dismiss,
    ("refunds", "credit"): _refund_credit,
    ("refunds", "paid"): _refund_paid,
    ("events", "retry"): _event_retry,
    ("events", "close"): _event_close,
    ("requests", "retry"): _request_retry,
    ("requests", "close"): _request_close,
}


def _kind(request: HttpRequest) -> str:
    kind = request.GET.get("kind", "")
    return kind if kind in KINDS else next(iter(KINDS))


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise not_found("record") from error


def _csv_rows(kind: str) -> Iterator[list[Any]]:
    _, find, order, columns = KINDS[kind]
    yield [*columns, "what_to_do"]
    cursor = ""
    while True:
        found = page_get(find(), order=order, cursor=cursor, limit=BLOCK)
        for row in found.rows:
            yield [*(getattr(row, name) for name in columns), remedy_of(kind, row)]
        cursor = found.next_cursor
        if not cursor:
            return
