"""Billing: the balance, and every movement of money with its cause."""

from django.http import HttpRequest, HttpResponse

from kindling_billing.selectors import balance_get, ledger_list
from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.spans import month_start
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import page_get
from kindling_platform.usage.selectors import usage_totals

CREDITS_SHOWN = 20


@page("billing.read")
def billing(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Balance, credits, ledger."""
    entries = ledger_list(owner_id=visitor.org.id)
    kind = request.GET.get("kind", "")
    shown = entries.filter(transaction__source_type=kind) if kind in {"usage", "credit"} else entries
    try:
        found = page_get(shown, order=("id", "id"), cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(shown, order=("id", "id"))
    context = {
        "wallet": balance_get(owner_id=visitor.org.id),
        "month": usage_totals(org=visitor.org, start=month_start(), end=now()),
        "credits": list(entries.filter(transaction__source_type="credit")[:CREDITS_SHOWN]),
        "entries": found.rows,
        "next": found.next_cursor,
        "kind": kind,
    }
    return show(request, "console/billing.html", context)
