"""Billing: the balance, ways to fill it, what stops it, and every movement of money with its cause."""

from collections.abc import Callable
from functools import partial
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from kindling_billing.credits import grant_list
from kindling_billing.invoicing import invoice_list
from kindling_billing.money import PICO_PER_CENT
from kindling_billing.payment_selectors import auto_topup_charged_cents, auto_topup_get, payment_list
from kindling_billing.saved_cards import card_list
from kindling_billing.selectors import (
    balance_get,
    ledger_list,
    ledger_list_gpu_time,
    ledger_list_granted,
    ledger_list_usage,
)
from kindling_billing.terms import terms_get
from kindling_console.access import Visitor, page
from kindling_console.answers import show
from kindling_console.causes import cause_url
from kindling_console.forms.billing import AddCreditForm, AlertForm, AutoTopUpForm, DetailsForm, HardLimitForm
from kindling_console.spans import month_start
from kindling_platform.accounts.provider import is_stand_in, is_test_mode, provider_find
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import PAGE_ROWS, Page, cursor_read, page_get
from kindling_platform.deployments.accrued import accrued_map
from kindling_platform.deployments.gpu_reports import gpu_time_spent
from kindling_platform.keys.limits import limits_get
from kindling_platform.usage.selectors import usage_totals

CREDITS_SHOWN, PAYMENTS_SHOWN, INVOICES_SHOWN = 20, 10, 24
KINDS = (
    ("", "All"),
    ("usage", "Usage"),
    ("gpu_time", "GPU time"),
    ("payment", "Payments"),
    ("credit", "Credit"),
)
LINES: dict[str, Callable[..., QuerySet[Any]]] = {
    "": ledger_list,
    "usage": ledger_list_usage,
    **{kind: partial(ledger_list_granted, source_type=kind) for kind in ("payment", "credit")},
}
FORMS = {
    "add": AddCreditForm, "auto": AutoTopUpForm, "hard": HardLimitForm, "alert": AlertForm, "details": DetailsForm,
}  # fmt: skip


@page("billing.read")
def billing(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The whole page."""
    return billing_show(request, visitor)


def billing_show(request: HttpRequest, visitor: Visitor, **bound: forms.Form) -> HttpResponse:
    """The page, with the form that was refused in the place of an empty one."""
    context = _money(visitor) | _ledger(request, visitor) | {"kinds": KINDS}
    filled = {name: bound.get(name) or kind(initial=_initial(name, context)) for name, kind in FORMS.items()}
    for name, form in filled.items():
        # Two of them ask for an amount, and an id is of one field alone.
        form.auto_id = f"id_{name}_%s"
    context |= {f"{name}_form": form for name, form in filled.items()}
    return show(request, "console/billing.html", context, status=422 if bound else 200)


def _money(visitor: Visitor) -> dict[str, Any]:
    owner_id = visitor.org.id
    wallet = balance_get(owner_id=owner_id)
    return {
        "may_write": visitor.may("billing.write"),
        "may_pay": visitor.may("billing.pay"),
        "payments_on": provider_find() is not None,
        "is_stand_in": is_stand_in(),
        "is_test_mode": is_test_mode(),
        "wallet": wallet,
        # The frame's own balance is the same number, read once.
        "balance": wallet.picousd,
        "month": usage_totals(org=visitor.org, start=month_start(), end=now()),
        "gpu_month": gpu_time_spent(org=visitor.org, start=month_start(), end=now()),
        "accrued": accrued_map(owner_ids=[owner_id]).get(owner_id, 0),
        "terms": terms_get(owner_id=owner_id),
        "limits": limits_get(org=visitor.org),
        "cards": list(card_list(owner_id=owner_id)),
        "wish": auto_topup_get(owner_id=owner_id),
        "charged_cents": auto_topup_charged_cents(owner_id=owner_id),
        "credits": list(grant_list(owner_id=owner_id)[:CREDITS_SHOWN]),
        "payments": list(payment_list(owner_id=owner_id)[:PAYMENTS_SHOWN]),
        "invoices": list(invoice_list(owner_id=owner_id)[:INVOICES_SHOWN]),
    }


def _ledger(request: HttpRequest, visitor: Visitor) -> dict[str, Any]:
    owner_id, kind = visitor.org.id, request.GET.get("kind", "")
    kind = kind if kind in dict(KINDS) else ""
    lines = _gpu_hours if kind == "gpu_time" else partial(_lines, kind=kind)
    try:
        found = lines(owner_id=owner_id, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = lines(owner_id=owner_id, cursor="")
    rows = [(entry, cause_url(entry)) for entry in found.rows]
    return {"entries": rows, "next": found.next_cursor, "kind": kind}


def _lines(*, owner_id: str, kind: str, cursor: str) -> Page:
    return page_get(LINES[kind](owner_id=owner_id), order=("id", "id"), cursor=cursor)


def _gpu_hours(*, owner_id: str, cursor: str) -> Page:
    until = str(cursor_read(cursor)[0]) if cursor else ""
    # One more than the page, to know whether it is the last, and the line that the cursor names, which was shown.
    newest = ledger_list_gpu_time(owner_id=owner_id, newest=PAGE_ROWS + 2, until=until)
    return page_get(newest, order=("transaction_id", "id"), cursor=cursor)


def _initial(name: str, context: dict[str, Any]) -> dict[str, str]:
    wish, terms, limits = context["wish"], context["terms"], context["limits"]
    if name == "auto" and wish is not None:
        return {
            "threshold": dollars(wish.threshold_cents),
            "amount": dollars(wish.amount_cents),
            "monthly_cap": dollars(wish.monthly_cap_cents),
        }
    if name == "hard" and limits.budget_month_picousd is not None:
        return {"limit": dollars(limits.budget_month_picousd // PICO_PER_CENT)}
    if name == "alert":
        return {"below": dollars(terms.low_balance_picousd // PICO_PER_CENT)}
    if name == "details":
        return {"bill_to": terms.bill_to, "tax_id": terms.tax_id}
    return {}


def dollars(cents: int) -> str:
    """Cents as they are typed."""
    return f"{cents // 100}.{cents % 100:02d}" if cents % 100 else str(cents // 100)
