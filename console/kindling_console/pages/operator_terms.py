"""Price plans, and what is agreed with an organisation: its plan from a day on, and how it pays."""

from decimal import Decimal

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_billing.money import pico_to_usd_text
from kindling_billing.plans import plan_list, plan_owner_map, plan_term_list
from kindling_billing.selectors import balance_get, price_list, spendable_map
from kindling_billing.terms import terms_get
from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.prices import PlanAssignForm, PlanForm, TermsForm
from kindling_console.sure import sure_recently
from kindling_platform.accounts.selectors import organisation_get, organisation_map
from kindling_platform.accounts.terms import payment_terms_set, price_plan_assign, price_plan_make
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

TERMS_SHOWN = 50


@page("operator", methods=("GET", "POST"))
def plans(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Every plan with what it prices and who is on it; a post makes a new one."""
    form = PlanForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        sure_recently(request)
        try:
            price_plan_make(name=form.cleaned_data["name"], actor=visitor.actor)
            return done(request, reverse("console:operator-plans"), "The plan is made. Give it prices.")
        except KindlingError as error:
            form.add_error("name", error.message)
    owners = plan_owner_map()
    names = organisation_map(organisation_ids=[owner for ids in owners.values() for owner in ids])
    refs = model_name_map()
    priced: dict[str, dict[str, str]] = {}
    for version in price_list().exclude(plan_id=""):
        priced.setdefault(version.plan_id, {})[version.sku] = refs.get(version.sku, version.sku)
    context = {
        "form": form,
        "plans": [
            (
                plan,
                sorted(priced.get(plan.id, {}).items(), key=lambda item: item[1]),
                [names[owner] for owner in owners.get(plan.id, []) if owner in names],
            )
            for plan in plan_list()
        ],
    }
    return show(request, "console/operator_plans.html", context, status=422 if form.is_bound else 200)


@page("operator", methods=("GET", "POST"))
def terms(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """An organisation's plan and how it pays; a post changes the one or the other."""
    org = organisation_get(organisation_id=organisation_id)
    plans = {plan.id: plan.name for plan in plan_list()}
    agreed = terms_get(owner_id=org.id)
    sent = request.POST.get("do", "") if request.method == "POST" else ""
    rows = list(plan_term_list(owner_id=org.id)[:TERMS_SHOWN])
    moment = now()
    current = next((row for row in rows if row.valid_from <= moment), None)
    plan_form = PlanAssignForm(
        request.POST if sent == "plan" else None,
        plans=list(plans.items()),
        initial={"plan": current.plan_id if current else ""},
    )
    terms_form = TermsForm(
        request.POST if sent == "terms" else None,
        initial={
            "mode": agreed.mode,
            "credit_limit": pico_to_usd_text(agreed.credit_limit_picousd, 2).replace(",", ""),
            "net_days": agreed.net_days,
            "tax_percent": Decimal(agreed.tax_basis_points) / 100,
            "own_replicas": agreed.own_replicas,
        },
    )
    here = reverse("console:operator-terms", args=[org.id])
    bound: forms.Form = plan_form if sent == "plan" else terms_form
    if sent and bound.is_valid():
        sure_recently(request)
        try:
            if sent == "plan":
                price_plan_assign(
                    org=org,
                    plan_id=plan_form.cleaned_data["plan"],
                    valid_from=plan_form.cleaned_data["valid_from"],
                    actor=visitor.actor,
                )
                return done(request, here, "The plan is set.")
            payment_terms_set(org=org, actor=visitor.actor, **terms_form.changes())
            return done(request, here, "The terms hold for the next request.")
        except KindlingError as error:
            bound.add_error(error.param if error.param in bound.fields else None, error.message)
    spendable = spendable_map(owner_ids=[org.id]).get(org.id)
    context = {
        "org": org,
        "agreed": agreed,
        "wallet": balance_get(owner_id=org.id),
        "spendable": spendable.picousd if spendable else 0,
        "plan_form": plan_form,
        "terms_form": terms_form,
        "history": [
            (row, plans.get(row.plan_id, row.plan_id), row is current, row.valid_from > moment)
            for row in rows
        ],
        "plan_now": plans.get(current.plan_id, "") if current else "",
    }
    return show(
        request, "console/operator_terms.html", context, status=422 if request.method == "POST" else 200
    )
