"""Going: one's data to take along, deleting one's account, and deleting an organisation."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, private, refused, show
from kindling_console.context import THEMES
from kindling_console.forms.departures import AccountDeleteForm, ConfirmForm
from kindling_console.sure import sure
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.conditions import standing_get
from kindling_platform.departures.exports import personal_data_export
from kindling_platform.departures.organisations import organisation_delete
from kindling_platform.departures.persons import place_list, user_delete

GOODBYE = "Your account is deleted. You may sign up with the same address again."


@page(methods=("GET", "POST"), of_any_org=True)
@sure
def account_data(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What is known of the visitor, as a ZIP that is made while they wait."""
    if request.method != "POST":
        return show(request, "console/account_data.html", {})
    theme = request.COOKIES.get("theme", "")
    chosen = {"theme": theme if theme in THEMES else "system", "organisation_id": visitor.org.id}
    try:
        content = personal_data_export(user=visitor.user, settings=chosen, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, reverse("console:account-data"), error)
    response = HttpResponse(content, content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="kindling-data-{now():%Y-%m-%d}.zip"'
    return private(response)


@page(methods=("GET", "POST"), of_any_org=True)
@sure
def account_delete(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What becomes of each organisation, and the form."""
    form = AccountDeleteForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            user_delete(
                user=visitor.user,
                typed=form.cleaned_data["confirm"],
                keep_keys=form.cleaned_data["keys"] == "keep",
                actor=visitor.actor,
                give_up_cents=form.give_up_cents,
            )
        except KindlingError as error:
            _blame(form, error)
        else:
            logout(request)
            messages.success(request, GOODBYE)
            return done(request, reverse("account_login"))
    places = place_list(user=visitor.user)
    context = {
        "form": form,
        "places": places,
        "is_barred": any(place.obstacles for place in places),
        "has_keys": any(place.live_keys for place in places if not place.goes_too),
    }
    return private(
        show(request, "console/account_delete.html", context, status=422 if form.is_bound else 200)
    )


@page("organisation.delete", methods=("GET", "POST"))
@sure
def organisation_delete_page(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """What has to be done before, what can be taken along, and the form."""
    form = ConfirmForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        try:
            organisation_delete(
                org=visitor.org,
                typed=form.cleaned_data["confirm"],
                actor=visitor.actor,
                give_up_cents=form.give_up_cents.get(visitor.org.id, 0),
            )
        except KindlingError as error:
            _blame(form, error)
        else:
            said = (
                f"{visitor.org.name} is deleted. What is left of it is cleared away within the next minutes."
            )
            return done(request, reverse("console:home"), said)
    standing = standing_get(org=visitor.org)
    context: dict[str, Any] = {
        "form": form,
        "org": visitor.org,
        "standing": standing,
        "others": len(visitor.others),
    }
    return private(
        show(request, "console/organisation_delete.html", context, status=422 if form.is_bound else 200)
    )


def _blame(form: ConfirmForm, error: KindlingError) -> None:
    """A refusal beside its field, or above the form."""
    fields = {"confirmation_wrong": "confirm", "balance_left": "give_up"}
    form.add_error(fields.get(error.code), error.message)
