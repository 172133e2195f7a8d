"""Pages of whoever runs this installation: organisations, credit, fleet."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_billing.credits import grant_list
from kindling_billing.payment_selectors import payment_list
from kindling_billing.selectors import balance_get, balance_map, books_sum
from kindling_billing.terms import terms_get
from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.operator import CreditForm
from kindling_console.spans import month_start
from kindling_console.sure import sure_recently
from kindling_platform.accounts.credit import credit_give
from kindling_platform.accounts.selectors import member_list, organisation_find, organisation_get
from kindling_platform.accounts.stops import suspension_find
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import new_id
from kindling_platform.common.pagination import page_get
from kindling_platform.deployments.gpu_reports import gpu_time_by_organisation, gpu_time_spent
from kindling_platform.deployments.selectors import deployment_list, replica_list
from kindling_platform.usage.selectors import parked_list, usage_by_organisation, usage_totals

SHOWN = 500
NEWEST = ("created_at", "id")


@page("operator")
def organisations(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Organisations with balance and this month's usage, newest first."""
    query = request.GET.get("q", "").replace("\0", "").strip()[:80]
    rows = organisation_find(query=query)
    try:
        found = page_get(rows, order=NEWEST, cursor=request.GET.get("cursor", ""))
    except KindlingError:
        found = page_get(rows, order=NEWEST)
    shown, moment = [org.id for org in found.rows], now()
    context = {
        "organisations": found.rows,
        "query": query,
        "next": found.next_cursor,
        "balances": balance_map(owner_ids=shown),
        "usage": usage_by_organisation(organisation_ids=shown, start=month_start(), end=moment),
        "gpu_time": gpu_time_by_organisation(organisation_ids=shown, start=month_start(), end=moment),
        "books_sum": books_sum(),
        "parked": parked_list()[:20],
    }
    return show(request, "console/operator_organisations.html", context)


@page("operator", methods=("GET", "POST"))
def organisation(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """One organisation, and credit for it."""
    org = organisation_get(organisation_id=organisation_id)
    form = CreditForm(request.POST or None, initial={"grant_id": new_id("grt")})
    if request.method == "POST" and form.is_valid():
        sure_recently(request)
        amount = form.cleaned_data["amount_picousd"]
        granted = credit_give(
            org=org,
            amount_picousd=amount,
            # The form's own id: a form that is sent twice grants once.
            source_id=form.cleaned_data["grant_id"],
            memo=form.cleaned_data["memo"],
            actor=visitor.actor,
        )
        target = reverse("console:operator-organisation", args=[org.id])
        return done(
            request, target, "The credit is granted." if granted else "This credit was granted before."
        )
    context = {
        "org": org,
        "form": form,
        "suspension": suspension_find(org=org),
        "terms": terms_get(owner_id=org.id),
        "wallet": balance_get(owner_id=org.id),
        "members": list(member_list(org=org)[:100]),
        "month": usage_totals(org=org, start=month_start(), end=now()),
        "gpu_month": gpu_time_spent(org=org, start=month_start(), end=now()),
        "credits": list(grant_list(owner_id=org.id).filter(kind="promo")[:20]),
        "payments": list(payment_list(owner_id=org.id)[:20]),
        "refund_id": new_id("rfd"),
    }
    return show(request, "console/operator_organisation.html", context, status=422 if form.is_bound else 200)


@page("operator")
def fleet(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Every deployment and replica of the installation."""
    context = {"deployments": list(deployment_list()[:SHOWN]), "replicas": list(replica_list()[:SHOWN])}
    return show(request, "console/operator_fleet.html", context, part="console/parts/fleet_rows.html")
