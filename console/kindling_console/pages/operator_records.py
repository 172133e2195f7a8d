"""Records that wait for a person: why each is here, what to do, and the buttons that do it."""

from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_billing.payment_selectors import call_list_open
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.sure import sure_recently
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.records.acting import ACTIONS, record_act
from kindling_platform.records.exports import record_rows
from kindling_platform.records.kinds import KINDS, Kind
from kindling_platform.records.remedies import remedy_of

SHOWN = 100


@page("operator")
def records(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """One kind of record, with the number of each; the kind is in the URL."""
    kind = _kind(request)
    try:
        found = page_get(kind.find(), order=kind.order, cursor=request.GET.get("cursor", ""), limit=SHOWN)
    except KindlingError:
        found = page_get(kind.find(), order=kind.order, limit=SHOWN)
    rows = [(row, kind.owner_of(row), remedy_of(kind.key, row)) for row in found.rows]
    context = {
        "kind": kind.key,
        "kinds": [(one.key, one.label, one.find().count()) for one in KINDS.values()],
        "rows": rows,
        "next": found.next_cursor,
        "organisations": organisation_map(organisation_ids=[owner for _, owner, _ in rows]),
        "waiting": call_list_open() if kind.key == "requests" else [],
    }
    return show(request, "console/operator_records.html", context)


@page("operator")
def records_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every record of a kind."""
    kind = _kind(request)
    return csv_response(request, name=f"kindling-records-{kind.key}.csv", rows=record_rows(kind))


@page("operator", methods=("POST",))
def record_action(
    request: HttpRequest, visitor: Visitor, kind: str, record_id: str, action: str
) -> HttpResponse:
    """Do what a button says; a refusal is shown on the page that it came from."""
    if (kind, action) not in ACTIONS:
        raise Http404(action)
    target = f"{reverse('console:operator-records')}?kind={kind}"
    sure_recently(request)
    try:
        said = record_act(
            kind=kind,
            record_id=record_id,
            action=action,
            note=request.POST.get("note", ""),
            actor=visitor.actor,
        )
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, said)


def _kind(request: HttpRequest) -> Kind:
    return KINDS.get(request.GET.get("kind", "")) or next(iter(KINDS.values()))
