"""Organisations that owe, or may soon be unable to go on, and what is done about it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse

from kindling_billing.risk import invoice_ages, invoice_list_unpaid
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.sure import sure_recently
from kindling_platform.accounts import decisions
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.usage.risk import KINDS, risk_counts, risk_list
from kindling_platform.usage.risk_rows import risk_rows

SHOWN = 200


@page("operator")
def risk(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Unpaid invoices by age, and every organisation at risk with its reasons."""
    kind = _kind(request)
    rows = risk_list()
    chosen = [row for row in rows if not kind or any(one.kind == kind for one in row.risks)]
    counts = risk_counts(rows)
    unpaid = invoice_list_unpaid()
    context = {
        "rows": chosen[:SHOWN],
        "more": len(chosen[SHOWN:]),
        "at_risk": len(rows),
        "kind": kind,
        "kinds": [(name, label, counts.get(name, 0)) for name, label in KINDS],
        "ages": invoice_ages(unpaid),
        "open_cents": sum(one.total_cents - one.paid_cents for one in unpaid),
        "unpaid": [(one, _days_over(one), one.total_cents - one.paid_cents) for one in unpaid[:SHOWN]],
        "owners": organisation_map(organisation_ids=[one.owner_id for one in unpaid[:SHOWN]]),
    }
    return show(request, "console/operator_risk.html", context)


@page("operator")
def risk_csv(request: HttpRequest, visitor: Visitor) -> HttpResponseBase:
    """Every organisation at risk, one line each."""
    return csv_response(request, name="kindling-at-risk.csv", rows=risk_rows(kind=_kind(request)))


@page("operator", methods=("POST",))
def invoice_give_up(request: HttpRequest, visitor: Visitor, invoice_id: str) -> HttpResponse:
    """Give up what is open of an invoice."""
    target = f"{reverse('console:operator-risk')}#unpaid"
    sure_recently(request)
    try:
        decisions.invoice_give_up(
            invoice_id=invoice_id, reason=request.POST.get("note", ""), actor=visitor.actor
        )
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "The invoice is given up.")


def _kind(request: HttpRequest) -> str:
    kind = request.GET.get("kind", "")
    return kind if kind in dict(KINDS) else ""


def _days_over(invoice: Any) -> int:
    return max((now() - invoice.due_at).days, 0) if invoice.due_at else 0
