"""What an organisation has settled for itself: its name, and whether prompts and answers are kept."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.settings import LOG_CHOICES, RequestLogForm
from kindling_platform.requestlog.selectors import request_log_get
from kindling_platform.requestlog.services import request_log_set


@page("usage.read", write="settings.write", methods=("GET", "POST"))
def organisation_settings(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Everybody may see how it is; owners and admins change it."""
    state = request_log_get(org=visitor.org)
    form = RequestLogForm(request.POST or None, days=state.days, kept=state.kept)
    if request.method == "POST" and form.is_valid():
        days = form.cleaned_data["days"]
        request_log_set(org=visitor.org, days=days, actor=visitor.actor)
        return done(request, reverse("console:settings"), _said(days))
    context = {
        "form": form,
        "state": state,
        "choices": LOG_CHOICES,
        "may_write": visitor.may("settings.write"),
        "may_see_activity": visitor.may("activity.read"),
        "may_open": visitor.may("prompts.open"),
    }
    return show(request, "console/settings.html", context, status=422 if form.is_bound else 200)


def _said(days: int) -> str:
    if not days:
        return "Prompts and answers are no longer kept. What was kept is deleted."
    return f"Prompts and answers are kept for {days} day{'' if days == 1 else 's'} from within a few seconds."
