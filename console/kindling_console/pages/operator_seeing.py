"""Seeing the console as a member of an organisation does: asked for with a reason, shown on every page, and ended."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.sure import sure
from kindling_platform.accounts.actor import user_actor
from kindling_platform.accounts.seeing import LASTS, SEEING, is_seeable, seeing_begin, seeing_end, seeing_find
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.accounts.team import member_get
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.requests import client_ip


@page("operator", methods=("GET", "POST"))
@sure
def seeing(request: HttpRequest, visitor: Visitor, organisation_id: str, user_id: str) -> HttpResponse:
    """Ask for a reason; a post begins."""
    org = organisation_get(organisation_id=organisation_id)
    member = member_get(org=org, user_id=user_id)
    typed, refusal = request.POST.get("reason", ""), ""
    if request.method == "POST":
        try:
            row = seeing_begin(
                operator=visitor.user, org=org, user_id=user_id, reason=typed, actor=visitor.actor
            )
            request.session[SEEING] = row.id
            return done(request, reverse("console:home"))
        except KindlingError as error:
            refusal = error.message
    context = {
        "org": org,
        "member": member,
        "is_seeable": is_seeable(member),
        "minutes": int(LASTS.total_seconds() // 60),
        "typed": typed,
        "refusal": refusal,
    }
    return show(request, "console/operator_seeing.html", context, status=422 if refusal else 200)


@page(methods=("POST",), of_any_org=True)
def seeing_over(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """End it, in whichever tab; back to the organisation's page."""
    seen = seeing_find(session=request.session, user_id=request.user.pk)
    if seen is None:
        return done(request, reverse("console:home"))
    seeing_end(seeing_id=seen.row.id, actor=user_actor(seen.row.operator, ip=client_ip(request)))
    del request.session[SEEING]
    target = reverse("console:operator-organisation", args=[seen.row.organisation_id])
    return done(request, target, "You see the console as yourself again.")
