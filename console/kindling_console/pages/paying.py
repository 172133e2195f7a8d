"""Adding credit, cards, topping up by itself, limits, and the page that waits for a payment."""

from typing import Any

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from kindling_billing.invoicing import invoice_list
from kindling_billing.money import cents_to_pico
from kindling_billing.payment_selectors import PagePayment, payment_find
from kindling_billing.saved_cards import card_list
from kindling_console.access import Visitor, page
from kindling_console.answers import done, private, refused, show
from kindling_console.forms.billing import AddCreditForm, AlertForm, AutoTopUpForm, DetailsForm, HardLimitForm
from kindling_console.pages.billing import billing_show
from kindling_console.sure import sure_recently
from kindling_platform.accounts import paying
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.limits import limits_are_raised, limits_get, limits_set

BILLING = "console:billing"
WRITE = "billing.write"
PAY = "billing.pay"


@page(WRITE, methods=("POST",))
def credit_add(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Begin a top-up and lead to the page that leads to the provider's."""
    sure_recently(request)
    form = AddCreditForm(request.POST)
    if not form.is_valid():
        return billing_show(request, visitor, add=form)
    try:
        call = paying.topup_begin(
            org=visitor.org,
            amount_cents=form.cleaned_data["amount"],
            return_url=_return_url(),
            actor=visitor.actor,
        )
    except KindlingError as error:
        form.add_error("amount", error.message)
        return billing_show(request, visitor, add=form)
    return done(request, f"{reverse('console:payment', args=[call.subject])}?go=1")


@page(PAY, methods=("POST",))
def invoice_pay(request: HttpRequest, visitor: Visitor, invoice_id: str) -> HttpResponse:
    """Begin to pay an invoice; a suspended organisation may, too."""
    if not invoice_list(owner_id=visitor.org.id).filter(id=invoice_id).exists():
        raise Http404("There is no such invoice.")
    try:
        call = paying.invoice_pay_begin(
            org=visitor.org, invoice_id=invoice_id, return_url=_return_url(), actor=visitor.actor
        )
    except KindlingError as error:
        return refused(request, reverse(BILLING), error)
    return done(request, f"{reverse('console:payment', args=[call.subject])}?go=1")


@page("billing.read")
def payment(request: HttpRequest, visitor: Visitor, payment_id: str) -> HttpResponse:
    """What becomes of one payment; `go` leads on to the provider's page as soon as there is one."""
    return private(show(request, "console/payment.html", _payment(request, visitor, payment_id)))


@page("billing.read")
def payment_live(request: HttpRequest, visitor: Visitor, payment_id: str) -> HttpResponse:
    """The part of it that changes by itself."""
    context = _payment(request, visitor, payment_id)
    found: PagePayment = context["found"]  # type: ignore[assignment]
    if context["go"] and found.url and found.payment.state == "open":
        response = HttpResponse(status=204)
        response["HX-Redirect"] = found.url
        return private(response)
    return private(show(request, "console/parts/payment_live.html", context | {"oob": True}))


@page(WRITE, methods=("POST",))
def auto_topup(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Switch topping up by itself on, or change it."""
    sure_recently(request)
    form = AutoTopUpForm(request.POST)
    if not form.is_valid():
        return billing_show(request, visitor, auto=form)
    try:
        paying.auto_topup_change(
            org=visitor.org,
            enabled=True,
            threshold_cents=form.cleaned_data["threshold"],
            amount_cents=form.cleaned_data["amount"],
            monthly_cap_cents=form.cleaned_data["monthly_cap"],
            actor=visitor.actor,
        )
    except KindlingError as error:
        form.add_error(None, error.message)
        return billing_show(request, visitor, auto=form)
    return done(request, f"{reverse(BILLING)}#auto", "Automatic top-up is on.")


@page(WRITE, methods=("POST",))
def auto_topup_off(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Switch it off: one click."""
    paying.auto_topup_off(org=visitor.org, actor=visitor.actor)
    return done(request, f"{reverse(BILLING)}#auto", "Automatic top-up is off. Your card is not charged.")


@page(WRITE, methods=("POST",))
def card_action(request: HttpRequest, visitor: Visitor, card_id: str, action: str) -> HttpResponse:
    """Remove a card, or make it the one that is charged."""
    if not card_list(owner_id=visitor.org.id).filter(id=card_id).exists():
        raise Http404("There is no such card.")
    sure_recently(request)
    act = paying.card_remove if action == "remove" else paying.card_choose
    try:
        act(org=visitor.org, card_id=card_id, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, reverse(BILLING), error)
    said = "The card is removed." if action == "remove" else "This card is charged from now on."
    return done(request, f"{reverse(BILLING)}#cards", said)


@page(PAY, methods=("GET",))
def portal(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Lead to the provider's page for cards and addresses."""
    sure_recently(request)
    try:
        url = paying.portal_begin(
            org=visitor.org,
            return_url=f"{settings.KINDLING_ENV.public_url}{reverse(BILLING)}",
            actor=visitor.actor,
        )
    except KindlingError as error:
        return refused(request, reverse(BILLING), error)
    return private(redirect(url))


@page(WRITE, methods=("POST",))
def hard_limit(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Set the month's limit, or lift it."""
    form = HardLimitForm(request.POST)
    if not form.is_valid():
        return billing_show(request, visitor, hard=form)
    cents = form.cleaned_data["limit"]
    values = {"budget_month_picousd": None if cents is None else cents_to_pico(cents)}
    if limits_are_raised(limits_get(org=visitor.org), values):
        sure_recently(request)
    try:
        limits_set(org=visitor.org, values=values, actor=visitor.actor)
    except KindlingError as error:
        form.add_error("limit", error.message)
        return billing_show(request, visitor, hard=form)
    held = "The limit is in force for the next request, and for deployments within a minute."
    said = "There is no limit." if cents is None else held
    return done(request, f"{reverse(BILLING)}#limits", said)


@page(WRITE, methods=("POST",))
def alert(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Say below which balance a letter is sent."""
    form = AlertForm(request.POST)
    if not form.is_valid():
        return billing_show(request, visitor, alert=form)
    return _details_set(request, visitor, form, low_balance_picousd=cents_to_pico(form.cleaned_data["below"]))


@page(WRITE, methods=("POST",))
def details(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Say what stands on invoices."""
    form = DetailsForm(request.POST)
    if not form.is_valid():
        return billing_show(request, visitor, details=form)
    return _details_set(request, visitor, form, **form.cleaned_data)


def _details_set(
    request: HttpRequest, visitor: Visitor, form: AlertForm | DetailsForm, **changes: Any
) -> HttpResponse:
    try:
        paying.billing_details_set(org=visitor.org, actor=visitor.actor, **changes)
    except KindlingError as error:
        form.add_error(None, error.message)
        name = "alert" if isinstance(form, AlertForm) else "details"
        return billing_show(request, visitor, **{name: form})
    return done(request, reverse(BILLING), "Saved.")


def _payment(request: HttpRequest, visitor: Visitor, payment_id: str) -> dict[str, object]:
    found = payment_find(owner_id=visitor.org.id, payment_id=payment_id)
    if found is None:
        raise Http404("There is no such payment.")
    return {
        "found": found,
        "payment": found.payment,
        "go": request.GET.get("go") == "1" and visitor.may(PAY),
        "cancelled": "cancelled" in request.GET,
    }


def _return_url() -> str:
    path = reverse("console:payment", args=["PLACE"]).replace("PLACE", "{payment}")
    return f"{settings.KINDLING_ENV.public_url}{path}"
