"""The operator stops an organisation's requests, and lets them go on."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused
from kindling_console.sure import sure_recently
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.accounts.suspension import organisation_resume, organisation_suspend
from kindling_platform.common.errors import KindlingError


@page("operator", methods=("POST",))
def suspension(request: HttpRequest, visitor: Visitor, organisation_id: str) -> HttpResponse:
    """Suspend an organisation, or with `do=resume` lift it; either way with a reason."""
    org = organisation_get(organisation_id=organisation_id)
    target = reverse("console:operator-organisation", args=[org.id])
    reason = request.POST.get("reason", "")
    sure_recently(request)
    try:
        if request.POST.get("do") == "resume":
            organisation_resume(org=org, reason=reason, actor=visitor.actor)
            return done(request, target, "The suspension is lifted.")
        organisation_suspend(org=org, reason=reason, actor=visitor.actor)
    except KindlingError as error:
        return refused(request, target, error)
    return done(request, target, "The organisation is suspended; its requests stop within a second.")
