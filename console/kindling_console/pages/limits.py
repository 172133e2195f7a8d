"""Limits of a key, for those who make keys; rates and budgets of an organisation, for the operator."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.limits import LimitsForm
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.limits import limits_get, limits_set
from kindling_platform.keys.selectors import key_get

TEMPLATE = "console/limits.html"


@page("keys.write", methods=("GET", "POST"))
def key_limits(request: HttpRequest, visitor: Visitor, key_id: str) -> HttpResponse:
    """What a key and its successors may do."""
    key = key_get(org=visitor.org, key_id=key_id)
    form = LimitsForm(request.POST or None, limits=limits_get(org=visitor.org, key_id=key.id))
    if request.method == "POST" and form.is_valid():
        try:
            limits_set(org=visitor.org, values=form.cleaned_data, actor=visitor.actor, key_id=key.id)
            return done(request, reverse("console:keys"), f"The limits of “{key.name}” hold within a second.")
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    context = {
        "form": form,
        "title": f"Limits of “{key.name}”",
        "back": reverse("console:keys"),
        "place": "API keys",
    }
    return show(request, TEMPLATE, context, status=422 if form.is_bound else 200)


@page("operator", methods=("GET", "POST"))
def organisation_limits(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """What an organisation may do; what is left open has the installation's defaults."""
    org = organisation_get(organisation_id=organisation_id)
    form = LimitsForm(request.POST or None, limits=limits_get(org=org))
    back = reverse("console:operator-organisation", args=[org.id])
    if request.method == "POST" and form.is_valid():
        try:
            limits_set(org=org, values=form.cleaned_data, actor=visitor.actor, by_operator=True)
            return done(request, back, f"The limits of {org.name} hold within a second.")
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    context = {
        "form": form,
        "title": f"Limits of {org.name}",
        "back": back,
        "place": org.name,
        "defaults": True,
    }
    return show(request, TEMPLATE, context, status=422 if form.is_bound else 200)
