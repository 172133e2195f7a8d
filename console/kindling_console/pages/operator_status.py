"""The operator's notices on the status page: write one, add to it, end it, withdraw it."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, show
from kindling_console.forms.status import NoticeForm
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import new_id
from kindling_platform.status.selectors import notice_get, notice_list_all, status_get, updates_of
from kindling_platform.status.services import (
    Written,
    notice_end,
    notice_update,
    notice_withdraw,
    notice_write,
)


@page("operator", methods=("GET", "POST"))
def notices(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """Every notice, how the components are now, and a form for another notice."""
    form = NoticeForm(request.POST or None, initial={"notice_id": new_id("ntc")})
    if request.method == "POST" and form.is_valid():
        given = dict(form.cleaned_data)
        notice_id = given.pop("notice_id")
        try:
            # The form's own id: a form that is sent twice writes one notice.
            notice, is_new = notice_write(notice_id=notice_id, written=Written(**given), actor=visitor.actor)
            text = "The notice is on the status page." if is_new else "This notice was written before."
            return done(request, reverse("console:operator-notice", args=[notice.id]), text)
        except KindlingError as error:
            form.add_error(error.param if error.param in form.fields else None, error.message)
    status = status_get()
    context = {"form": form, "notices": list(notice_list_all()), "status": status, "moment": status.moment}
    return show(request, "console/operator_status.html", context, status=422 if form.is_bound else 200)


@page("operator", methods=("GET", "POST"))
def notice(request: HttpRequest, visitor: Visitor, notice_id: str) -> HttpResponse:
    """One notice; a post with `do` adds to it, ends it or withdraws it."""
    text, problem = request.POST.get("text", ""), ""
    if request.method == "POST":
        try:
            said = _change(request.POST.get("do", ""), notice_id, text, visitor.actor)
            return done(request, reverse("console:operator-notice", args=[notice_id]), said)
        except KindlingError as error:
            if error.status == 404:
                raise
            problem = error.message
    found = notice_get(notice_id=notice_id)
    context = {
        "notice": found,
        "updates": updates_of(found),
        "moment": now(),
        "text": text,
        "problem": problem,
    }
    return show(request, "console/operator_notice.html", context, status=422 if problem else 200)


def _change(do: str, notice_id: str, text: str, actor: Actor) -> str:
    """Do it, and give the sentence to say so."""
    if do == "withdraw":
        notice_withdraw(notice_id=notice_id, actor=actor)
        return "The notice is withdrawn; its words are gone."
    if do == "end":
        notice_end(notice_id=notice_id, text=text, actor=actor)
        return "The notice is ended."
    notice_update(notice_id=notice_id, text=text, actor=actor)
    return "It is added to the notice."
