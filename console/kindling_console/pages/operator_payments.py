"""The operator's view of the payment provider: reconciliation, what is unresolved, refunds."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_billing.payment_selectors import call_list_open, event_list_parked, reconciliation_list
from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused, show
from kindling_console.forms.billing import RefundForm
from kindling_console.sure import sure_recently
from kindling_platform.accounts import treasury
from kindling_platform.accounts.provider import is_stand_in, is_test_mode, provider_find
from kindling_platform.accounts.selectors import organisation_get, organisation_map
from kindling_platform.common.errors import KindlingError


@page("operator", methods=("GET", "POST"))
def payments(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The last reconciliations and everything that waits for a person; a post reconciles now."""
    if request.method == "POST":
        try:
            row = treasury.books_reconcile()
        except KindlingError as error:
            return refused(request, request.path, error)
        said = "The books agree." if not row.findings else f"{len(row.findings)} things do not agree."
        return done(request, request.path, said)
    calls = call_list_open()
    runs = reconciliation_list()
    context = {
        "payments_on": provider_find() is not None,
        "is_stand_in": is_stand_in(),
        "is_test_mode": is_test_mode(),
        "runs": runs,
        "last": runs[0] if runs else None,
        "parked": event_list_parked(),
        "calls": calls,
        "organisations": organisation_map(organisation_ids=[call.owner_id for call in calls]),
    }
    return show(request, "console/operator_payments.html", context)


@page("operator", methods=("POST",))
def event_retry(request: HttpRequest, visitor: Visitor, event_id: str) -> HttpResponse:
    """Try a parked event again."""
    target = reverse("console:operator-payments")
    sure_recently(request)
    try:
        receipt = treasury.event_try_again(event_id=event_id, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "It is booked." if receipt.state == "applied" else "It is still refused.")


@page("operator", methods=("POST",))
def refund(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """Give money back to the card that paid."""
    org = organisation_get(organisation_id=organisation_id)
    target = reverse("console:operator-organisation", args=[org.id])
    form = RefundForm(request.POST)
    if not form.is_valid():
        text = "Give an amount such as 25 or 7.50 and a reason, and reload the page if it is old."
        return refused(request, target, KindlingError("refund_invalid", text))
    sure_recently(request)
    try:
        call = treasury.refund_give(
            org=org,
            payment_id=form.cleaned_data["payment"],
            amount_cents=form.cleaned_data["amount"],
            reference=form.cleaned_data["reference"],
            reason=form.cleaned_data["reason"],
            actor=visitor.actor,
        ).call
    except KindlingError as error:
        return refused(request, target, error)
    if call.state == "refused":
        return refused(request, target, KindlingError("refund_refused", call.trouble))
    return done(
        request, target, "The refund is given." if call.state == "done" else "The refund is under way."
    )
