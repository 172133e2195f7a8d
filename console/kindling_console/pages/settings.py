"""What an organisation has settled for itself: its name, and whether prompts and answers are kept."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.settings import LOG_CHOICES, OrganisationNameForm, RequestLogForm
from kindling_platform.accounts.services import organisation_rename
from kindling_platform.common.errors import KindlingError
from kindling_platform.requestlog.selectors import request_log_get
from kindling_platform.requestlog.services import request_log_set


@page("usage.read", write="settings.write", methods=("GET", "POST"))
def organisation_settings(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Everybody may see how it is; owners and admins change it."""
    state, is_renamed = request_log_get(org=visitor.org), request.POST.get("do") == "name"
    name_form = OrganisationNameForm(
        request.POST if is_renamed else None, initial={"name": visitor.org.name}, auto_id="id_org_%s"
    )
    if name_form.is_bound and _named(name_form, visitor):
        return done(request, reverse("console:settings"), "The name is changed.")
    form = RequestLogForm(None if is_renamed else request.POST or None, days=state.days, kept=state.kept)
    if form.is_bound and form.is_valid():
        days = form.cleaned_data["days"]
        request_log_set(org=visitor.org, days=days, actor=visitor.actor)
        return done(request, reverse("console:settings"), _said(days))
    context = {
        "form": form,
        "name_form": name_form,
        "state": state,
        "choices": LOG_CHOICES,
        "may_write": visitor.may("settings.write"),
        "may_see_webhooks": visitor.may("webhooks.read"),
        "may_see_activity": visitor.may("activity.read"),
        "may_open": visitor.may("prompts.open"),
        "may_delete": visitor.may("organisation.delete"),
    }
    return show(
        request, "console/settings.html", context, status=422 if form.is_bound or name_form.is_bound else 200
    )


def _named(form: OrganisationNameForm, visitor: Visitor) -> bool:
    """Whether the organisation has the name now; what speaks against it stands beside the field."""
    if not form.is_valid():
        return False
    try:
        organisation_rename(org=visitor.org, name=form.cleaned_data["name"], actor=visitor.actor)
    except KindlingError as error:
        form.add_error("name", error.message)
        return False
    return True


def _said(days: int) -> str:
    if not days:
        return "Prompts and answers are no longer kept. What was kept is deleted."
    return f"Prompts and answers are kept for {days} day{'' if days == 1 else 's'} from within a few seconds."
